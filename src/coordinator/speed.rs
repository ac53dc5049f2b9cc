//! Learns how fast each deployment prefills, from the first tokens that the shards note.

use std::convert::Infallible;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use super::aggregate::Current;
use crate::plan::Plan;
use crate::policy::routing::speed::factors;

/// Time between two fits. Chosen, not measured.
const TICK: Duration = Duration::from_secs(2);

/// Fits for as long as the process runs.
pub(super) async fn run(current: Current) -> Infallible {
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        fit(&current.load().plan);
    }
}

/// Fits every deployment of a pool with a choice. One that is in several pools keeps what the last one says of it: the pools
/// of a model's other names have the same members.
fn fit(plan: &Plan) {
    for model in plan.models.iter().filter(|model| model.pool.len() > 1) {
        let speeds: Vec<Option<f32>> =
            model.pool.iter().map(|member| plan.deployments.cells(member.deployment).speed.fit()).collect();
        for ((member, seconds), factor) in model.pool.iter().zip(&speeds).zip(factors(&speeds)) {
            if let Some(seconds) = seconds {
                plan.deployments.cells(member.deployment).speed.set(*seconds, factor);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coordinator::fixture::{plan, tcp};
    use crate::policy::routing::speed::Sample;

    #[test]
    fn a_slow_member_of_a_pool_gets_its_factor_and_one_without_samples_none() {
        let plan = plan(&[tcp("127.0.0.1", 1), tcp("127.0.0.1", 2), tcp("127.0.0.1", 3)]);
        let cells = |index: usize| plan.deployments.cells(plan.models[0].pool[index].deployment);
        for (index, seconds) in [(0, 0.1), (1, 0.3)] {
            (0..20).for_each(|_| cells(index).speed.note(Sample { tokens: 1_000, streams: 0, seconds }));
        }
        fit(&plan);
        let of = |index: usize| (cells(index).speed.seconds().is_some(), cells(index).speed.factor());
        assert_eq!((of(0), of(2)), ((true, 1.0), (false, 1.0)));
        assert!(of(1).0 && (3.0..3.5).contains(&of(1).1), "{:?}", of(1));
    }
}
