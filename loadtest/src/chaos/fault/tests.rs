//! Faults as text.

use super::*;

fn kind(text: &str) -> Kind<Span> {
    text.parse::<Fault>().unwrap().kind
}

const fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

const fn exactly(number: u64) -> Span {
    Span { low: number, high: number }
}

#[test]
fn each_form_parses() {
    let (at, size) = (Span { low: 100, high: 4000 }, Span { low: 1, high: 16 });
    for (text, wanted) in [
        ("latency 5ms", Kind::Latency { delay: ms(5), jitter: ms(0) }),
        ("latency 5ms jitter=2ms", Kind::Latency { delay: ms(5), jitter: ms(2) }),
        ("bandwidth 20000", Kind::Bandwidth { rate: 20_000 }),
        ("slice 1..16 pause=500us", Kind::Slice { size, pause: Duration::from_micros(500) }),
        ("stall at=100..4000 for=2s", Kind::Stall { at, pause: ms(2000) }),
        ("freeze", Kind::Freeze { at: exactly(0), until: None }),
        ("freeze for=1s at=9", Kind::Freeze { at: exactly(9), until: Some(ms(1000)) }),
        ("reset", Kind::Reset { at: exactly(0) }),
        ("reset at=7", Kind::Reset { at: exactly(7) }),
        ("cut at=100..4000", Kind::Cut { at }),
        ("early-fin at=1", Kind::EarlyFin { at: exactly(1) }),
        ("half-close at=0", Kind::HalfClose { at: exactly(0) }),
        ("duplicate at=3 size=1..16", Kind::Duplicate { at: exactly(3), size }),
        ("refuse", Kind::Refuse { pause: ms(1000) }),
        ("refuse for=20ms", Kind::Refuse { pause: ms(20) }),
    ] {
        assert_eq!(kind(text), wanted, "{text}");
    }
}

#[test]
fn direction_and_share_stand_anywhere_after_the_name() {
    let cut: Fault = "cut p=0.25 at=1 down".parse().unwrap();
    assert_eq!((cut.directions, cut.share), (&[Direction::Down][..], 0.25));
    let cut: Fault = "  cut  up at=1 ".parse().unwrap();
    assert_eq!((cut.directions, cut.share), (&[Direction::Up][..], 1.0));
    assert_eq!("cut at=1".parse::<Fault>(), "cut both at=1 p=1".parse());
    assert!("refuse".parse::<Fault>().unwrap().directions.is_empty());
}

#[test]
fn error_names_the_fault_what_is_wrong_and_the_form() {
    for (text, wrong) in [
        ("cut", "at= is missing"),
        ("cut at=", r#""" is neither a number"#),
        ("cut at=-1", r#""-1" is neither"#),
        ("cut at=+1", r#""+1" is neither"#),
        ("cut at=1..", r#""1.." is neither"#),
        ("cut at=9..8", "ends before it begins"),
        ("cut at=18446744073709551616", "is neither"),
        ("cut at=1 at=2", "at= stands twice"),
        ("cut at=1 for=2s", "for= has no meaning in it"),
        ("cut at=1 sideways", r#""sideways" has no meaning in it"#),
        ("cut at=1 up down", r#""down" is a second direction"#),
        ("cut at=1 p=1.1", "p=1.1 is not from 0 to 1"),
        ("cut at=1 p=nan", "p=nan is not from 0 to 1"),
        ("latency", "its value is missing"),
        ("latency 5", r#""5" is no time"#),
        ("latency ms", r#""ms" is no time"#),
        ("latency 5m", r#""5m" is no time"#),
        ("latency 86401s", "is no time"),
        ("latency 99999999999999999999s", "is no time"),
        ("latency 1ms 2ms", "it has two values"),
        ("bandwidth 0", r#""0" is no number of bytes a second"#),
        ("slice 0..4", r#""0..4" allows no byte"#),
        ("stall at=5", "for= is missing"),
        ("duplicate at=1 size=65537", "is more than 65536 bytes"),
        ("duplicate at=1 size=0", "allows no byte"),
        ("refuse up", "it has no direction"),
    ] {
        let error = text.parse::<Fault>().unwrap_err();
        let name = text.split(' ').next().unwrap();
        assert!(error.starts_with(&format!("fault {text:?}: ")), "{error}");
        assert!(error.contains(wrong), "{error} has no {wrong}");
        assert!(error.contains(&format!("; the form is `{name} ")), "{error}");
    }
}

#[test]
fn unknown_name_lists_the_known_ones() {
    for text in ["", "boom", "Cut at=1", "up cut at=1"] {
        let error = text.parse::<Fault>().unwrap_err();
        assert!(error.contains("no fault is called") && error.ends_with("duplicate, refuse"), "{error}");
    }
}

#[test]
fn forms_have_every_name_once() {
    for (name, _) in FORMS {
        let text = ["", " 5ms", " 5", " at=1", " at=1 for=1s", " at=1 size=1"]
            .map(|rest| format!("{name}{rest}").parse::<Fault>());
        let read = text.into_iter().flatten().next().expect(name);
        assert_eq!(read.kind.name(), name);
    }
}

#[test]
fn range_gives_both_its_ends_and_nothing_else() {
    let mut chance = Chance::new(3);
    let mut drawn: Vec<_> = (0..200).map(|_| Span { low: 4, high: 7 }.draw(&mut chance)).collect();
    drawn.sort_unstable();
    drawn.dedup();
    assert_eq!(drawn, [4, 5, 6, 7]);
    assert_eq!(exactly(9).draw(&mut chance), 9);
    // The widest range there is does not overflow.
    Span { low: 0, high: u64::MAX }.draw(&mut chance);
}
