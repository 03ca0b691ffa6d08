//! How calls of pods are asked, answered and ended.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use h2::Reason;

use super::*;

#[test]
fn a_call_is_asked_and_answered() {
    let mut table = Table::new();
    table.pod.say_head(1, asks(FILES, false));
    table.data(POD, 1, 10, true);
    assert_eq!(table.at_user(), [format!("1: {FILES}"), "1: 10 bytes, end".to_owned()]);
    table.user.say_head(1, answers(false));
    table.data(Side::User, 1, 20, false);
    table.user.say_head(1, trailers("0"));
    assert_eq!(table.at_pod(), ["1: answer", "1: 20 bytes", "1: 0, end"]);
    assert!(!table.delivered.load(Ordering::Relaxed), "a directory that is read leaves nothing");
}

#[test]
fn an_export_is_known_to_have_delivered_something() {
    let mut table = Table::new();
    table.pod.say_head(1, asks(EXPORT, false));
    table.at_user();
    assert!(!table.delivered.load(Ordering::Relaxed));
    table.data(POD, 1, 1, false);
    table.at_user();
    assert!(table.delivered.load(Ordering::Relaxed));
}

#[test]
fn a_cancellation_travels_at_once_in_both_directions() {
    let mut table = Table::answering(FILES);
    table.data(Side::User, 1, 200 * KIB, false);
    table.say(Side::User).unwrap();
    table.pod.reset(1, Reason::CANCEL);
    assert_eq!(table.at_user(), ["1: reset CANCEL"]);
    // What was on its way is nobody's any more, and breaks nothing.
    table.data(Side::User, 1, 10, true);
    assert_eq!(bytes(&table.at_pod()), 0);
    let mut table = Table::answering(FILES);
    table.data(Side::User, 1, 200 * KIB, false);
    table.user.reset(1, Reason::INTERNAL_ERROR);
    assert_eq!(table.at_pod().last().unwrap(), "1: reset INTERNAL_ERROR");
}

#[test]
fn an_answer_that_is_whole_arrives_whole_though_its_sender_wants_nothing_more() {
    let mut table = Table::new();
    table.pod.say_head(1, asks(FILES, false));
    table.at_user();
    table.raw(POD, &settings(INITIAL_WINDOW, 10));
    table.user.say_head(1, answers(false));
    table.data(Side::User, 1, 15, false);
    table.user.say_head(1, trailers("0"));
    // Go's server says so, and again for all that it gets afterwards.
    table.user.reset(1, Reason::NO_ERROR);
    table.user.reset(1, Reason::STREAM_CLOSED);
    assert_eq!(table.at_pod(), ["1: answer", "1: 10 bytes"]);
    table.data(POD, 1, 5, false);
    assert_eq!(table.at_user(), Vec::<String>::new());
    table.pod.open(1, 100);
    assert_eq!(table.at_pod(), ["1: 5 bytes", "1: 0, end", "1: reset NO_ERROR"]);
}

#[test]
fn a_user_that_leaves_ends_all_calls_but_those_whose_answers_are_whole() {
    let mut table = Table::new();
    for stream in [1, 3] {
        table.pod.say_head(stream, asks(FILES, true));
    }
    table.at_user();
    table.raw(POD, &settings(INITIAL_WINDOW, 10));
    for stream in [1, 3] {
        table.user.say_head(stream, answers(false));
        table.data(Side::User, stream, 15, false);
    }
    table.user.say_head(3, trailers("0"));
    assert_eq!(bytes(&table.at_pod()), 20);
    table.switch.lose(Side::User);
    assert_eq!(table.at_pod(), ["1: reset CANCEL", "away"]);
    assert!(!table.switch.is_done(0));
    table.pod.open(3, 100);
    assert_eq!(table.at_pod(), ["3: 5 bytes", "3: 0, end"]);
    assert!(table.switch.is_done(0));
}

#[test]
fn a_pod_that_leaves_ends_its_own_calls_and_no_others() {
    let mut table = Table::new();
    table.pod.say_head(1, asks(FILES, true));
    table.at_user();
    table.switch.join(1, Arc::default());
    let mut second = End::greet(Part::Client);
    second.say_head(1, asks(EXPORT, false));
    table.switch.hear(Side::Pod(1), &mut carried(&mut second.outbox)).unwrap();
    assert_eq!(table.at_user(), [format!("3: {EXPORT}")]);
    table.switch.lose(POD);
    assert_eq!(table.at_user(), ["1: reset CANCEL"]);
    second.say_head(1, Head { end: true, ..trailers("0") });
    table.switch.hear(Side::Pod(1), &mut carried(&mut second.outbox)).unwrap();
    assert_eq!(table.at_user(), ["3: 0, end"]);
}

#[test]
fn a_pod_that_is_told_to_go_ends_its_calls_and_begins_none() {
    let mut table = Table::answering(FILES);
    table.switch.leave(0);
    table.pod.say_head(3, asks(FILES, true));
    assert_eq!(table.at_pod(), ["away", "3: reset REFUSED_STREAM"]);
    assert!(!table.switch.is_done(0));
    table.user.say_head(1, trailers("0"));
    assert_eq!(table.at_pod(), ["1: 0, end"]);
    assert!(table.switch.is_done(0));
}

#[test]
fn a_user_that_takes_no_more_calls_gets_none() {
    let mut table = Table::answering(FILES);
    table.raw(Side::User, &away(1));
    table.say(Side::User).unwrap();
    table.pod.say_head(3, asks(FILES, true));
    assert_eq!(table.at_pod(), ["3: reset REFUSED_STREAM"]);
    assert_eq!(table.at_user(), Vec::<String>::new());
    table.user.say_head(1, trailers("0"));
    assert_eq!(table.at_pod(), ["1: 0, end"]);
}

#[test]
fn what_breaks_http2_ends_the_connection_that_says_it() {
    for (name, side, said) in [
        ("data of a call that never was, from the user", Side::User, data_head(1, 0, false).to_vec()),
        ("data of a call that never was, from the pod", POD, data_head(1, 0, false).to_vec()),
        ("more room than there can be", POD, [&[0, 0, 4, 8, 0, 0, 0, 0, 0][..], &[0x7f, 0xff, 0xff, 0xff]].concat()),
        ("no room at all", POD, [&[0, 0, 4, 8, 0, 0, 0, 0, 0][..], &[0; 4]].concat()),
        ("a frame that is too long", Side::User, data_head(1, 1 << 20, false).to_vec()),
        ("a promise", Side::User, vec![0, 0, 4, 5, 4, 0, 0, 0, 1, 0, 0, 0, 2]),
    ] {
        let mut table = Table::new();
        table.raw(side, &said);
        assert!(table.say(side).is_err(), "{name}");
        let words = table.heard(side);
        assert_eq!(words, ["away"], "{name}");
    }
    let mut switch = Switch::new();
    switch.join(0, Arc::default());
    assert_eq!(switch.hear(POD, &mut Bytes::from_static(b"GET / HTTP/1.1\r\n")), Err(Reason::PROTOCOL_ERROR));
}

#[test]
fn what_the_user_has_not_taken_when_it_takes_no_more_is_refused() {
    let mut table = Table::answering(FILES);
    table.pod.say_head(3, asks(FILES, true));
    table.at_user();
    table.raw(Side::User, &away(1));
    assert_eq!(table.at_pod(), ["3: reset REFUSED_STREAM"]);
    table.user.say_head(1, trailers("0"));
    assert_eq!(table.at_pod(), ["1: 0, end"]);
}

#[test]
fn a_call_has_one_answer() {
    let mut table = Table::answering(FILES);
    table.user.say_head(1, answers(false));
    assert_eq!(table.at_pod(), ["1: reset PROTOCOL_ERROR"]);
    let mut table = Table::new();
    table.pod.say_head(1, asks(FILES, true));
    table.at_user();
    let promises = || Head { pseudo: Pseudo::response(StatusCode::EARLY_HINTS), fields: HeaderMap::new(), end: false };
    for _ in 0..8 {
        table.user.say_head(1, promises());
    }
    assert_eq!(table.at_pod().len(), 8);
    table.user.say_head(1, promises());
    assert_eq!(table.at_pod(), ["1: reset ENHANCE_YOUR_CALM"], "and a bounded number of promises of one");
}

#[test]
fn many_small_pieces_are_put_together() {
    let mut table = Table::answering(FILES);
    table.raw(POD, &settings(INITIAL_WINDOW, 0));
    table.at_pod();
    for at in 0..5_000 {
        table.raw(Side::User, &[&data_head(1, 1, false)[..], &[at as u8]].concat());
    }
    table.say(Side::User).unwrap();
    table.pod.open(1, 10_000);
    assert_eq!(table.at_pod(), ["1: 5000 bytes"]);
}
