use std::sync::Arc;

use super::*;
use crate::sync::interleavings::{check, spawn};

#[test]
fn of_two_that_ask_at_once_one_stops_the_youngest_and_none_is_lost() {
    check(|| {
        let running = Arc::new(Running::default());
        let [old, young] = [1, 2].map(|home| running.enter(home).unwrap()); // before the threads: no model sees into `OnceLock`
        let other = Arc::clone(&running);
        let thread = spawn(move || {
            other.wait(young);
            let stopped = other.stop_youngest(young);
            other.leave(young);
            stopped
        });
        running.wait(old);
        let first = running.stop_youngest(old);
        let second = thread.join().unwrap();
        match second {
            Stopped::Own => {}
            _ => assert!(first == Stopped::Own, "{first:?} {second:?}"),
        }
        running.go_on(old);
        assert!(!running.is_anybody_waiting());
        running.leave(old);
    });
}
