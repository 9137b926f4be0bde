//! Compares what a gateway sends of a participant's token to the media node with a committed text.

#![allow(clippy::unwrap_used, reason = "a test, outside of test functions")]

use systir_golden::Golden;
use systir_livekit::token::{Grants, PublishSource};
use systir_version::VersionRange;

#[test]
fn the_grants_of_a_token_are_written_and_read_as_their_fixture() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden");
    let golden = Golden::new(env!("CARGO_PKG_NAME"), folder, VersionRange::OWN);
    let grants = Grants {
        name: "Anna".to_owned(),
        metadata: "{}".to_owned(),
        attributes: [("systir.guest".to_owned(), "true".to_owned())].into(),
        can_publish_sources: Some(vec![PublishSource::Camera, PublishSource::ScreenShareAudio]),
        hidden: true,
        guest: true,
        expires: 1_795_939_200,
        ..Grants::new("ku.dk", "", "anna")
    };
    golden.check("claims.json", &serde_json::to_vec(&grants).unwrap(), |_, bytes| {
        assert_eq!(serde_json::from_slice::<Grants>(bytes).unwrap(), grants);
        // A field of a later version is ignored.
        let longer = std::str::from_utf8(bytes).unwrap().replacen('{', r#"{"later":1,"#, 1);
        assert_eq!(serde_json::from_str::<Grants>(&longer).unwrap(), grants);
    });
    golden.check_names(&["claims.json"]);
}
