//! Hints travel beside an error's message, so that the command line can print them apart.

use tonic::Status;
use tonic::metadata::MetadataValue;

/// The trailer that carries a hint: UTF-8 text, one trailer per hint.
pub const HINT: &str = "buildfleet-hint-bin";

/// `status` with `hint` beside it.
pub fn with_hint(mut status: Status, hint: &str) -> Status {
    status.metadata_mut().append_bin(HINT, MetadataValue::from_bytes(hint.as_bytes()));
    status
}

/// The hints that came with `status`, in order.
pub fn hints(status: &Status) -> Vec<String> {
    let values = status.metadata().get_all_bin(HINT).iter().filter_map(|value| value.to_bytes().ok());
    values.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hints_come_back_in_order_and_are_no_part_of_the_message() {
        let status = with_hint(with_hint(Status::not_found("no builder kube"), "did you mean `küche`?"), "see ls");
        assert_eq!(status.message(), "no builder kube");
        assert_eq!(hints(&status), ["did you mean `küche`?", "see ls"]);
        assert!(hints(&Status::ok("")).is_empty());
    }
}
