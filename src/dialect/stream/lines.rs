//! Streams of lines, each a JSON object.

use super::{Counts, Meter, Signals};
use crate::wire::ndjson;

impl Meter {
    /// Takes in whole lines.
    pub(super) fn lines(&mut self, lines: &[u8]) -> Signals {
        let mut seen_to = 0;
        for (_, span) in self.form.words.find_iter(lines) {
            if span.start < seen_to {
                continue;
            }
            let start = ndjson::last_boundary(&lines[..span.start]);
            seen_to = ndjson::next_boundary(lines, start).unwrap_or(lines.len());
            let mut line = Counts::default();
            line.feed(&lines[start..seen_to]);
            self.see_line(&line);
        }
        Signals { first_token: self.see_first_token(lines), ..Signals::default() }
    }

    /// What a line says, whole or in pieces.
    pub(super) fn see_line(&mut self, line: &Counts) {
        self.ended |= line.is_done();
        self.errored |= line.has_error();
        if line.usage().seen {
            self.usage.merge(*line.usage());
        }
    }

    /// Takes in a piece of a line that is too long to be held; where it ends, if in this piece.
    pub(super) fn piece_of_line(&mut self, piece: &[u8]) -> Option<usize> {
        let end = ndjson::next_boundary(piece, 0);
        self.line.get_or_insert_default().feed(&piece[..end.unwrap_or(piece.len())]);
        if end.is_some() {
            self.end_piece();
        }
        end
    }
}
