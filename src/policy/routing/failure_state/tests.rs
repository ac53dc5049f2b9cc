use super::*;

const fn seconds(seconds: u64) -> Nanos {
    Nanos(seconds * 1_000_000_000)
}

#[derive(Default)]
struct Two {
    backend: Breaker,
    deployment: Breaker,
}

impl Two {
    fn state(&self) -> FailureState<'_> {
        FailureState {
            backend: &self.backend,
            deployment: &self.deployment,
            limit_scope: LimitScope::Model,
            alone: false,
        }
    }
}

fn report(kind: FaultKind) -> Report {
    Report { kind, asked: None, connected: true }
}

fn fail(state: &FailureState<'_>, kind: FaultKind, times: usize, now: Nanos) {
    for _ in 0..times {
        state.report(report(kind), Probes::default(), now, 0);
    }
}

#[test]
fn what_only_the_transport_tells_is_about_the_backend() {
    for kind in [FaultKind::ConnectFailed, FaultKind::ConnectTimeout, FaultKind::TlsFailed] {
        let two = Two::default();
        fail(&two.state(), kind, 5, seconds(1));
        assert_eq!(two.backend.open(seconds(1)), Some((Cause::Failures, seconds(2))), "{kind:?}");
        assert_eq!(two.deployment.open(seconds(1)), None, "{kind:?}");
    }
    // Out of time before there was a connection.
    let two = Two::default();
    let late = Report { connected: false, ..report(FaultKind::TotalTimeout) };
    (0..5).for_each(|_| two.state().report(late, Probes::default(), seconds(1), 0));
    assert!(two.backend.open(seconds(1)).is_some() && two.deployment.open(seconds(1)).is_none());
}

#[test]
fn what_a_response_tells_is_about_the_deployment() {
    for kind in [
        FaultKind::BackendFailed,
        FaultKind::BackendDenied,
        FaultKind::BackendClosed,
        FaultKind::BackendMalformed,
        FaultKind::BackendCut,
        FaultKind::FirstTokenTimeout,
        FaultKind::EventTimeout,
        FaultKind::TotalTimeout,
    ] {
        let two = Two::default();
        fail(&two.state(), kind, 4, seconds(1));
        assert_eq!(two.state().blocked(seconds(1)), None, "{kind:?}");
        fail(&two.state(), kind, 1, seconds(1));
        assert_eq!(two.deployment.open(seconds(1)), Some((Cause::Failures, seconds(2))), "{kind:?}");
        assert_eq!(two.backend.open(seconds(1)), None, "{kind:?}");
    }
    for (kind, cause) in
        [(FaultKind::BackendBusy, Cause::Limit), (FaultKind::BackendOverloaded, Cause::Unavailable)]
    {
        let two = Two::default();
        fail(&two.state(), kind, 1, seconds(1));
        assert_eq!(two.deployment.open(seconds(1)), Some((cause, seconds(2))));
        assert_eq!(two.backend.open(seconds(1)), None);
    }
}

#[test]
fn a_pause_lasts_as_asked_and_not_for_ever() {
    for (asked, until) in [(0, 1), (7, 8), (100_000, 301)] {
        let two = Two::default();
        let report = Report { asked: Some(seconds(asked)), ..report(FaultKind::BackendBusy) };
        two.state().report(report, Probes::default(), seconds(1), 0);
        assert_eq!(two.deployment.peek(seconds(0)), Admission::Open { until: seconds(until) });
    }
}

#[test]
fn a_failure_may_ask_for_a_pause() {
    let two = Two::default();
    let report = Report { asked: Some(seconds(7)), ..report(FaultKind::BackendFailed) };
    two.state().report(report, Probes::default(), seconds(1), 0);
    assert_eq!(two.deployment.open(seconds(1)), Some((Cause::Unavailable, seconds(8))));
    (0..4).for_each(|_| two.state().report(report, Probes::default(), seconds(1), 0));
    let probes = two.state().admit(seconds(8)).expect("a probe");
    two.state().report(Report { asked: None, ..report }, probes, seconds(8), 0);
    assert!(two.state().admit(seconds(8)).is_none(), "and is one");
}

#[test]
fn a_limit_of_the_account_pauses_the_backend() {
    let two = Two::default();
    let state = FailureState { limit_scope: LimitScope::Backend, ..two.state() };
    fail(&state, FaultKind::BackendOverloaded, 1, seconds(1));
    assert_eq!(two.backend.open(seconds(1)), None, "which is no limit");
    fail(&state, FaultKind::BackendBusy, 1, seconds(1));
    assert_eq!(two.backend.open(seconds(1)), Some((Cause::Limit, seconds(2))));
    // Half open it stays so on a mere connection.
    let probes = state.admit(seconds(2)).expect("a probe");
    assert!(probes.backend.is_some());
    two.backend.connected();
    assert!(two.backend.is_probing(seconds(2)));
    state.success(seconds(3));
    assert_eq!(state.admit(seconds(3)), Some(Probes::default()));
}

#[test]
fn a_backend_that_was_reached_is_not_out_of_reach() {
    for kind in [FaultKind::BackendFailed, FaultKind::BackendBusy, FaultKind::ContextExceeded] {
        let two = Two::default();
        fail(&two.state(), FaultKind::ConnectFailed, 5, seconds(1));
        let probes = two.state().admit(seconds(2)).expect("a probe");
        assert_eq!(probes, Probes { backend: Some(seconds(2)), deployment: None });
        two.state().report(report(kind), probes, seconds(2), 0);
        assert_eq!(two.backend.peek(seconds(2)), Admission::Closed, "{kind:?}");
    }
    let two = Two::default();
    fail(&two.state(), FaultKind::ConnectFailed, 5, seconds(1));
    assert!(two.state().admit(seconds(2)).is_some_and(|probes| probes.backend.is_some()));
    two.backend.connected();
    assert_eq!(two.backend.peek(seconds(2)), Admission::Closed, "before any response");
}

#[test]
fn a_probe_that_one_breaker_gives_and_the_other_refuses_is_there_for_the_next() {
    let two = Two::default();
    fail(&two.state(), FaultKind::ConnectFailed, 5, seconds(1));
    two.deployment.hold(seconds(10), Cause::Limit);
    assert_eq!(two.state().admit(seconds(5)), None);
    assert_eq!(two.backend.peek(seconds(5)), Admission::Probe);
    assert_eq!(two.state().blocked(seconds(5)), Some((Cause::Limit, seconds(10))));
    assert_eq!(
        two.state().admit(seconds(10)),
        Some(Probes { backend: Some(seconds(10)), deployment: Some(seconds(10)) })
    );
}

#[test]
fn a_request_that_was_never_sent_says_nothing_of_its_backend() {
    for kind in [FaultKind::BodyMalformed, FaultKind::MemberUnsupported] {
        let two = Two::default();
        let unsent = Report { connected: false, ..report(kind) };
        (0..9).for_each(|_| two.state().report(unsent, Probes::default(), seconds(1), 0));
        assert_eq!(two.state().blocked(seconds(1)), None, "{kind:?}");
    }
}

#[test]
fn what_others_leave_undone_does_not_end_a_probe() {
    for kind in [
        FaultKind::ClientGone,
        FaultKind::ClientStalled,
        FaultKind::KeyRevoked,
        FaultKind::Draining,
        FaultKind::HeadMalformed,
        FaultKind::BodyMalformed,
        FaultKind::MemberUnsupported,
        FaultKind::SocketsExhausted,
    ] {
        let two = Two::default();
        fail(&two.state(), FaultKind::BackendFailed, 5, seconds(1));
        let probes = two.state().admit(seconds(2)).expect("a probe");
        two.state().report(report(kind), Probes::default(), seconds(2), 0);
        assert_eq!(two.state().admit(seconds(2)), None, "{kind:?}: it was not the probe");
        two.state().report(report(kind), probes, seconds(2), 0);
        assert_eq!(two.state().admit(seconds(2)), Some(probes), "{kind:?}: the next may try");
    }
    // A refused connection says nothing about the deployment, whose probe it was.
    let two = Two::default();
    fail(&two.state(), FaultKind::BackendFailed, 5, seconds(1));
    let probes = two.state().admit(seconds(2)).expect("a probe");
    two.state().report(report(FaultKind::ConnectFailed), probes, seconds(2), 0);
    assert_eq!(two.deployment.peek(seconds(2)), Admission::Probe);
}

#[test]
fn what_a_backend_does_not_serve_neither_blames_nor_clears_it() {
    let two = Two::default();
    fail(&two.state(), FaultKind::BackendRefused, 100, seconds(1));
    assert_eq!(two.state().admit(seconds(1)), Some(Probes::default()));
    fail(&two.state(), FaultKind::BackendFailed, 4, seconds(1));
    fail(&two.state(), FaultKind::BackendRefused, 1, seconds(1));
    fail(&two.state(), FaultKind::BackendFailed, 1, seconds(1));
    assert_eq!(two.state().admit(seconds(1)), None, "five failures in a row");
    let probes = two.state().admit(seconds(2)).expect("a probe");
    two.state().report(report(FaultKind::BackendRefused), probes, seconds(2), 0);
    assert_eq!(two.state().admit(seconds(2)), Some(probes), "the next is the probe");
    two.state().report(report(FaultKind::RequestRejected), probes, seconds(2), 0);
    assert_eq!(two.state().admit(seconds(2)), Some(Probes::default()), "which it understood");
}

#[test]
fn a_probe_that_fails_opens_for_twice_as_long() {
    let two = Two::default();
    fail(&two.state(), FaultKind::BackendFailed, 5, seconds(1));
    let probes = two.state().admit(seconds(2)).expect("a probe");
    two.state().report(report(FaultKind::BackendFailed), probes, seconds(2), 0);
    assert_eq!(two.deployment.peek(seconds(2)), Admission::Open { until: seconds(4) });
    let probes = two.state().admit(seconds(4)).expect("a probe");
    two.state().report(report(FaultKind::ContextExceeded), probes, seconds(4), 0);
    assert_eq!(two.deployment.peek(seconds(4)), Admission::Closed);
}

#[test]
fn who_is_alone_is_asked_again_before_a_client_would_retry() {
    let two = Two::default();
    let alone = FailureState { alone: true, ..two.state() };
    for kind in [FaultKind::BackendBusy, FaultKind::BackendOverloaded] {
        fail(&alone, kind, 20, seconds(1));
        assert_eq!(alone.admit(seconds(1)), Some(Probes::default()), "{kind:?} did not ask for a pause");
    }
    let asked = Report { asked: Some(seconds(3)), ..report(FaultKind::BackendOverloaded) };
    alone.report(asked, Probes::default(), seconds(1), 0);
    assert_eq!(alone.blocked(seconds(1)), Some((Cause::Unavailable, seconds(4))), "as it asked");
    // After the pause one is the probe, and the others do not wait for it.
    assert_eq!(alone.admit(seconds(4)), Some(Probes { backend: None, deployment: Some(seconds(4)) }));
    assert_eq!(alone.admit(seconds(4)), Some(Probes::default()));
    assert_eq!(alone.blocked(seconds(4)), None);
    assert!(two.state().admit(seconds(4)).is_none(), "where there are others, they answer meanwhile");
    alone.success(seconds(4));
    for kind in [FaultKind::BackendFailed, FaultKind::ConnectFailed] {
        for round in 0..10 {
            let now = seconds(10 + round);
            fail(&alone, kind, 5, now);
            let half = now.plus(Nanos(500_000_000));
            assert!(alone.blocked(now).is_some() && alone.blocked(half).is_none(), "{kind:?}, round {round}");
            assert!(alone.admit(half).is_some(), "{kind:?}, round {round}");
        }
        alone.success(seconds(30));
    }
}

#[test]
fn a_probe_of_one_that_is_alone_ends_with_a_plain_503() {
    let two = Two::default();
    let alone = FailureState { alone: true, ..two.state() };
    fail(&alone, FaultKind::BackendFailed, 5, seconds(1));
    let probes = alone.admit(seconds(2)).expect("a probe");
    assert!(probes.any());
    alone.report(report(FaultKind::BackendOverloaded), probes, seconds(2), 0);
    assert_eq!(alone.admit(seconds(2)), Some(probes));
}
