//! Who may send how much, and how many calls.

use h2::Reason;

use super::*;
use crate::wire::{CONNECTION_WINDOW, STREAM_WINDOW};

#[test]
fn data_waits_for_the_window_of_its_stream() {
    let mut table = Table::answering(FILES);
    table.raw(POD, &settings(INITIAL_WINDOW, 1000));
    table.data(Side::User, 1, 3000, false);
    assert_eq!(bytes(&table.at_pod()), 1000);
    table.pod.open(1, 500);
    assert_eq!(bytes(&table.at_pod()), 500);
    table.raw(POD, &settings(INITIAL_WINDOW, 1200));
    assert_eq!(bytes(&table.at_pod()), 200, "a larger window of all streams is one of those that run");
    table.raw(POD, &settings(INITIAL_WINDOW, 100));
    table.pod.open(1, 1000);
    assert_eq!(bytes(&table.at_pod()), 0, "and a smaller one is a debt");
    table.pod.open(1, 200);
    assert_eq!(bytes(&table.at_pod()), 100);
    table.pod.open(1, 10_000);
    table.user.say_head(1, trailers("0"));
    assert_eq!(table.at_pod(), ["1: 1200 bytes", "1: 0, end"]);
}

#[test]
fn the_window_of_a_connection_is_shared_and_holds_up_no_heads() {
    let mut table = Table::new();
    for stream in [1, 3, 5] {
        table.pod.say_head(stream, asks(FILES, true));
    }
    table.at_user();
    let window = CONNECTION_WINDOW as usize;
    table.raw(POD, &settings(INITIAL_WINDOW, 1 << 30));
    for stream in [1, 3] {
        table.user.say_head(stream, answers(false));
    }
    // As much as a user's end may have on its way; the pod takes more than that on a stream, and no more on its connection.
    for stream in [1, 3] {
        table.data(Side::User, stream, STREAM_WINDOW as usize, false);
    }
    let mut told = bytes(&table.at_pod());
    for _ in 0..2 {
        for stream in [1, 3] {
            table.data(Side::User, stream, STREAM_WINDOW as usize / 2, false);
        }
        told += bytes(&table.at_pod());
    }
    for stream in [1, 3] {
        table.data(Side::User, stream, STREAM_WINDOW as usize / 2, false);
    }
    table.user.say_head(5, trailers("7"));
    let words = table.at_pod();
    told += bytes(&words);
    assert_eq!(told, window);
    assert!(words.contains(&"5: 7, end".to_owned()), "{words:?}");
    table.pod.relieve(window / 2);
    assert_eq!(bytes(&table.at_pod()), STREAM_WINDOW as usize, "all that has come by now");
}

#[test]
fn a_sender_may_send_again_what_has_left() {
    let mut table = Table::answering(FILES);
    let half = STREAM_WINDOW as usize / 2;
    table.raw(POD, &settings(INITIAL_WINDOW, 1 << 30));
    table.data(Side::User, 1, half - 1, false);
    table.at_pod();
    assert_eq!(table.at_user(), Vec::<String>::new());
    table.data(Side::User, 1, 1, false);
    table.at_pod();
    assert_eq!(table.at_user(), [format!("1: room {half}")]);
}

#[test]
fn who_sends_more_than_may_be_is_told_so() {
    let mut table = Table::answering(FILES);
    table.data(Side::User, 1, STREAM_WINDOW as usize + 1, false);
    assert_eq!(table.at_user(), ["1: reset FLOW_CONTROL_ERROR"], "on a stream, of that stream");
    assert_eq!(table.at_pod().last().unwrap(), "1: reset FLOW_CONTROL_ERROR");
    let mut table = Table::new();
    for stream in [1, 3, 5, 7, 9] {
        table.pod.say_head(stream, asks(FILES, true));
    }
    table.at_user();
    for stream in [1, 3, 5, 7] {
        table.data(Side::User, stream, STREAM_WINDOW as usize, false);
    }
    table.say(Side::User).unwrap();
    table.data(Side::User, 9, 1, false);
    assert_eq!(table.say(Side::User), Err(Reason::FLOW_CONTROL_ERROR), "on all together, of the connection");
}

#[test]
fn calls_beyond_what_the_user_takes_at_a_time_wait() {
    let mut table = Table::new();
    table.raw(Side::User, &settings(CALLS_AT_A_TIME, 2));
    for stream in [1, 3, 5, 7, 9] {
        table.pod.say_head(stream, asks(FILES, true));
    }
    assert_eq!(table.at_user(), [1, 3].map(|stream| format!("{stream}: {FILES}, end")));
    table.pod.reset(5, Reason::CANCEL);
    assert_eq!(table.at_user(), Vec::<String>::new(), "what never began needs no end");
    table.user.say_head(1, trailers("0"));
    assert_eq!(table.at_pod(), ["1: 0, end"]);
    assert_eq!(table.at_user(), [format!("5: {FILES}, end")], "the pod's fourth, under the next number");
    table.raw(Side::User, &settings(CALLS_AT_A_TIME, 3));
    assert_eq!(table.at_user(), [format!("7: {FILES}, end")]);
    table.user.say_head(7, trailers("3"));
    assert_eq!(table.at_pod(), ["9: 3, end"]);
}

#[test]
fn calls_that_stall_do_not_stall_the_others() {
    let mut table = Table::new();
    for stream in [1, 3, 5, 7] {
        table.pod.say_head(stream, asks(FILES, true));
    }
    table.at_user();
    table.raw(POD, &settings(INITIAL_WINDOW, 0));
    table.pod.open(7, 1 << 30);
    for stream in [1, 3, 5, 7] {
        table.user.say_head(stream, answers(false));
    }
    for (stream, length) in [(1, STREAM_WINDOW), (3, STREAM_WINDOW), (5, 1)] {
        table.data(Side::User, stream, length as usize, false);
    }
    assert_eq!(bytes(&table.at_pod()), 0);
    for _ in 0..20 {
        table.data(Side::User, 7, 1 << 20, false);
        let passed = bytes(&table.at_pod());
        assert_eq!(passed, 1 << 20);
        table.pod.relieve(passed);
        table.at_user();
    }
}

#[test]
fn padding_is_given_back() {
    let mut table = Table::answering(FILES);
    let mut padded = data_head(1, 256, false).to_vec();
    padded[4] = 0x8;
    padded.push(255);
    padded.resize(padded.len() + 255, 0);
    for _ in 0..STREAM_WINDOW / 256 / 2 {
        table.raw(Side::User, &padded);
    }
    assert_eq!(table.at_user(), [format!("1: room {}", STREAM_WINDOW / 2)]);
}

#[test]
fn a_place_goes_to_the_next_call_that_still_wants_it() {
    let mut table = Table::new();
    table.raw(Side::User, &settings(CALLS_AT_A_TIME, 1));
    for stream in [1, 3, 5] {
        table.pod.say_head(stream, asks(FILES, true));
    }
    assert_eq!(table.at_user(), [format!("1: {FILES}, end")]);
    table.pod.reset(1, Reason::CANCEL);
    table.pod.reset(3, Reason::CANCEL);
    assert_eq!(table.at_user(), ["1: reset CANCEL".to_owned(), format!("3: {FILES}, end")]);
}

#[test]
fn a_limit_stays_when_other_settings_change() {
    let mut table = Table::new();
    table.raw(Side::User, &settings(CALLS_AT_A_TIME, 100));
    table.at_user();
    table.raw(Side::User, &settings(INITIAL_WINDOW, 100_000));
    for number in 0..101 {
        table.pod.say_head(2 * number + 1, asks(FILES, true));
    }
    assert_eq!(table.at_user().len(), 100);
}
