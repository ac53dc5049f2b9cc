use super::*;
use crate::sync::interleavings::{check, spawn};

#[test]
fn who_sees_that_all_shards_are_closing_sees_all_that_they_did_before() {
    check(|| {
        let control = Arc::new(Control::new(2));
        let done: Arc<[AtomicUsize; 2]> = Arc::default();
        let shards = [0, 1].map(|shard| {
            let (presence, done) = (control.enter(), Arc::clone(&done));
            spawn(move || {
                done[shard].store(1, Ordering::Relaxed);
                presence.close();
                presence.close(); // said once, however often it is called
            })
        });
        if control.all_closing() {
            assert!(done.iter().all(|done| done.load(Ordering::Relaxed) == 1));
        }
        shards.into_iter().for_each(|shard| shard.join().unwrap());
        assert!(control.all_closing() && control.all_ended());
    });
}

#[test]
fn a_shard_that_stops_accepting_knows_when_to_cut_and_the_earliest_time_wins() {
    check(|| {
        let control = Arc::new(Control::new(1));
        let other = Arc::clone(&control);
        let patient = spawn(move || other.stop(Nanos(90)));
        let other = Arc::clone(&control);
        let hasty = spawn(move || other.stop(Nanos(50)));
        if control.stop_accepting() {
            assert!(control.cut_at() <= Nanos(90));
        }
        patient.join().unwrap();
        hasty.join().unwrap();
        assert_eq!((control.stop_accepting(), control.cut_at()), (true, Nanos(50)));
    });
}

#[test]
fn a_shard_that_comes_and_goes_never_hides_one_that_stays() {
    check(|| {
        let control = Arc::new(Control::new(2));
        let _stays = control.enter();
        let other = Arc::clone(&control);
        let guest = spawn(move || drop(other.enter()));
        assert!((1..=2).contains(&control.running()));
        guest.join().unwrap();
        assert_eq!(control.running(), 1);
        assert!(control.all_started() && !control.all_ended());
    });
}
