//! The files of journals: `<directory>/journal/<run>/<shard>-<segment>.seg`, a folder for each process.
//!
//! A process holds a lock on the file `lock` in its folder for as long as it runs; the kernel lets go of it however the
//! process ends. So whoever gets the lock of another's folder knows that nobody writes there any more, and may move what
//! it left over and remove it. Segments are allocated whole when they are made, so that no store to one can fail later.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use ring::rand::{SecureRandom, SystemRandom};
use rustix::fs::{FallocateFlags, fallocate};

use crate::observe::journal::codec::header;
use crate::observe::journal::{Entry, Frames, HEADER_BYTES, SEGMENT_BYTES, Segment};

/// Name of the folder of journals in the data directory.
const JOURNAL: &str = "journal";
/// Name of the file that a running process holds locked.
const LOCK: &str = "lock";

/// The folder of one process's journals, locked by this process.
pub struct Run {
    path: PathBuf,
    /// In the header of every segment; the folder's name.
    id: u64,
    /// Locked until it is closed.
    _lock: File,
}

impl Run {
    /// Makes a folder for this process in the data directory, which is made too.
    ///
    /// # Errors
    /// The directory cannot be written to.
    pub fn new(directory: &Path) -> io::Result<Self> {
        let runs = directory.join(JOURNAL);
        DirBuilder::new().recursive(true).mode(0o700).create(&runs)?;
        let mut id = [0; 8];
        SystemRandom::new()
            .fill(&mut id)
            .map_err(|_| io::Error::other("the machine has no random numbers"))?;
        let id = u64::from_ne_bytes(id);
        // Under another name until it is locked: nobody may take it for one that was left.
        let (path, draft) = (runs.join(format!("{id:016x}")), runs.join(format!(".{id:016x}")));
        DirBuilder::new().mode(0o700).create(&draft)?;
        let lock = create(&draft.join(LOCK))?;
        lock.try_lock()?;
        fs::rename(&draft, &path)?;
        Ok(Self { path, id, _lock: lock })
    }

    /// The folders whose processes are gone.
    ///
    /// # Errors
    /// The data directory cannot be read; it need not be there.
    pub fn left_over(directory: &Path) -> io::Result<Vec<Self>> {
        let mut runs = Vec::new();
        for (id, path) in folders(directory)? {
            let Ok(lock) = File::open(path.join(LOCK)) else { continue };
            match lock.try_lock() {
                Ok(()) => runs.push(Self { path, id, _lock: lock }),
                Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(error)) => return Err(error),
            }
        }
        Ok(runs)
    }

    /// The name under which the store knows the journal of a shard.
    pub fn journal(&self, shard: usize) -> String {
        format!("{:016x}-{shard}", self.id)
    }

    /// Where its files lie.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes a segment's file, allocated on the disk, and maps it.
    ///
    /// # Errors
    /// The disk is full, or the folder cannot be written to.
    pub fn segment(&self, shard: usize, index: u64) -> io::Result<Segment> {
        let path = segment_path(&self.path, shard, index);
        let position = index * SEGMENT_BYTES as u64;
        let file = create(&path)?;
        let made = allocate(&file)
            .and_then(|()| file.write_all_at(&header(self.id, position), 0))
            .and_then(|()| Segment::new(&file, position));
        if made.is_err() {
            let _ = fs::remove_file(&path); // a full disk needs the room
        }
        made
    }

    /// Waits until what was written to a segment is on the disk.
    ///
    /// # Errors
    /// The disk's own.
    pub fn sync(&self, shard: usize, index: u64) -> io::Result<()> {
        match File::open(segment_path(&self.path, shard, index)) {
            Ok(file) => file.sync_data(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()), // moved, and removed
            Err(error) => Err(error),
        }
    }

    /// The shards that have segments here.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn shards(&self) -> io::Result<Vec<usize>> {
        let mut shards: Vec<usize> = segments(&self.path)?.into_iter().map(|(shard, _)| shard).collect();
        shards.dedup();
        Ok(shards)
    }

    /// Removes the segments of a shard that lie before a position; the bytes that were freed.
    ///
    /// # Errors
    /// The folder cannot be written to.
    pub fn remove_before(&self, shard: usize, position: u64) -> io::Result<u64> {
        let mut freed = 0;
        for (_, index) in segments(&self.path)?.into_iter().filter(|&(other, _)| other == shard) {
            if (index + 1) * SEGMENT_BYTES as u64 <= position {
                fs::remove_file(segment_path(&self.path, shard, index))?;
                freed += SEGMENT_BYTES as u64;
            }
        }
        Ok(freed)
    }

    /// Bytes of its segments.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn bytes(&self) -> io::Result<u64> {
        Ok(segments(&self.path)?.len() as u64 * SEGMENT_BYTES as u64)
    }

    /// Removes the folder with everything in it: its records are all in the store.
    ///
    /// # Errors
    /// The data directory cannot be written to.
    pub fn remove(self) -> io::Result<()> {
        fs::remove_dir_all(&self.path)
    }
}

/// A stretch of a journal.
#[derive(Default)]
pub struct Stretch {
    /// Records with their positions.
    pub entries: Vec<(u64, Entry)>,
    /// Where the journal goes on.
    pub end: u64,
    /// Bytes between them that hold no valid record.
    pub damaged_bytes: u64,
    /// Valid records that this program cannot read.
    pub unreadable: u64,
    /// Whether there is no more, so far.
    pub is_last: bool,
}

/// Reads a journal of `run` from a position to the end of the segment that it lies in, or to `end` if that is before.
/// `None` for `end`: as far as there is something, of a journal that is written to no more.
///
/// # Errors
/// A file cannot be read, or is of a format that this program does not know.
pub fn read(run: &Path, shard: usize, position: u64, end: Option<u64>) -> io::Result<Stretch> {
    let segment = SEGMENT_BYTES as u64;
    let index = position / segment;
    let start = index * segment;
    let end = match end {
        Some(end) => end,
        None => segments(run)?
            .into_iter()
            .filter(|&(other, _)| other == shard)
            .map(|(_, index)| (index + 1) * segment)
            .max()
            .unwrap_or(position),
    };
    if end <= position {
        return Ok(Stretch { end: position, is_last: true, ..Stretch::default() });
    }
    let (stop, is_last) =
        if end < start + segment { (end, true) } else { (start + segment, end == start + segment) };
    let path = segment_path(run, shard, index);
    // What lies before has been read by an earlier call.
    let position = position.max(start + HEADER_BYTES as u64);
    let (mut header, mut bytes) = ([0; HEADER_BYTES], vec![0; stop.saturating_sub(position) as usize]);
    let read = File::open(&path).and_then(|file| {
        file.read_exact_at(&mut header, 0)?;
        file.read_exact_at(&mut bytes, position - start)
    });
    match read {
        Ok(()) => check_header(&path, &header)?,
        // Cut short or removed by somebody else: what is not there is damaged.
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::UnexpectedEof) => {
            return Ok(Stretch { end: stop, damaged_bytes: stop - position, is_last, ..Stretch::default() });
        }
        Err(error) => return Err(error),
    }
    let mut frames = Frames::behind_header(&bytes, position);
    let mut unreadable = 0;
    let mut entries = Vec::new();
    for (position, entry) in frames.by_ref() {
        match entry {
            Some(entry) => entries.push((position, entry)),
            None => unreadable += 1,
        }
    }
    Ok(Stretch { entries, end: stop, damaged_bytes: frames.damaged_bytes() as u64, unreadable, is_last })
}

/// Where a journal that another process may be writing ends now.
///
/// # Errors
/// A file cannot be read.
pub fn live_ends(directory: &Path) -> io::Result<Vec<(String, u64)>> {
    let mut ends = Vec::new();
    for (id, path) in folders(directory)? {
        let mut segments = match segments(&path) {
            Ok(segments) => segments,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue, // moved, and removed
            Err(error) => return Err(error),
        };
        segments.sort_unstable_by(|a, b| b.cmp(a));
        let mut last = None;
        for (shard, index) in segments {
            if last == Some(shard) {
                continue; // an earlier segment of a shard whose end is known
            }
            let start = index * SEGMENT_BYTES as u64;
            let bytes = match fs::read(segment_path(&path, shard, index)) {
                Ok(bytes) => bytes,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue, // moved meanwhile
                Err(error) => return Err(error),
            };
            let mut frames = Frames::live(&bytes, start, 0);
            if frames.by_ref().count() > 0 {
                ends.push((format!("{id:016x}-{shard}"), start + frames.offset() as u64));
                last = Some(shard);
            }
        }
    }
    Ok(ends)
}

/// A header that is blank was lost by a power cut; one that says something else is another format's.
fn check_header(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let magic = &bytes[..bytes.len().min(8)];
    if magic == b"RWJOURN1" || magic.iter().all(|&byte| byte == 0) || bytes.len() < HEADER_BYTES {
        return Ok(());
    }
    if magic.starts_with(b"RWJOURN") {
        let words = format!("{} was written by a newer program", path.display());
        return Err(io::Error::new(io::ErrorKind::Unsupported, words));
    }
    Ok(()) // damaged: its frames vouch for themselves
}

fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)
}

/// Every byte of a segment gets its place on the disk, and is zero.
fn allocate(file: &File) -> io::Result<()> {
    match fallocate(file, FallocateFlags::empty(), 0, SEGMENT_BYTES as u64) {
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => {
            // A file system without it (NFS): the zeros are written.
            let mut file = file;
            (0..SEGMENT_BYTES / ZEROS.len()).try_for_each(|_| file.write_all(&ZEROS))
        }
        other => Ok(other?),
    }
}

static ZEROS: [u8; 4096] = [0; 4096];

fn segment_path(run: &Path, shard: usize, index: u64) -> PathBuf {
    run.join(format!("{shard}-{index:010}.seg"))
}

/// Shard and index of every segment, in that order.
fn segments(run: &Path) -> io::Result<Vec<(usize, u64)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(run)? {
        let name = entry?.file_name();
        let numbers = name.to_str().and_then(|name| name.strip_suffix(".seg")?.split_once('-'));
        if let Some((shard, index)) = numbers
            && let (Ok(shard), Ok(index)) = (shard.parse(), index.parse())
        {
            found.push((shard, index));
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// The folders of runs, with their ids.
fn folders(directory: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let entries = match fs::read_dir(directory.join(JOURNAL)) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry?;
        let id = entry
            .file_name()
            .to_str()
            .filter(|name| name.len() == 16)
            .map(|name| u64::from_str_radix(name, 16));
        if let Some(Ok(id)) = id {
            found.push((id, entry.path()));
        }
    }
    found.sort_unstable();
    Ok(found)
}
