//! What a person types wrong or leaves out: the message says what is missing, and how to give it.

use std::os::unix::fs::PermissionsExt as _;

use crate::world::{Ran, World};

#[test]
fn an_end_in_s3_without_a_region_or_a_key_is_told_with_the_option_that_gives_it() {
    let world = World::new();
    world.collection("src");
    world.write("home/.aws/config", "[profile empty]\nregion = eu-west-1\n");
    for (args, environment, named) in [
        (
            &["src", "s3://b/copies"][..],
            None,
            "`s3://b/copies/` needs a region: give it by `--destination-region`, by AWS_REGION",
        ),
        (&["s3://b", "dst"], None, "`s3://b/` needs a region: give it by `--source-region`"),
        (
            &["src", "s3://b", "--destination-region", "eu-west-1"],
            None,
            "`s3://b/` needs an access key: give it by AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or by a profile \
             (`--destination-profile`)",
        ),
        (
            &["src", "s3://b"],
            Some(("AWS_PROFILE", "empty")),
            "`s3://b/` needs an access key: give it by AWS_ACCESS_KEY_ID",
        ),
        (
            &["src", "s3://b", "--destination-profile", "mistyped"],
            None,
            "`s3://b/` needs a region, and the profile `mistyped` is not there or names none",
        ),
        (
            &["src", "s3://b", "--destination-profile", "mistyped", "--destination-region", "eu-west-1"],
            None,
            "the profile `mistyped` is not there or has none",
        ),
    ] {
        let mut command = world.command();
        // Nothing is asked of the network.
        command.env("AWS_EC2_METADATA_DISABLED", "true").envs(environment).arg("mirror").args(args);
        let ran = Ran::of(command.output().unwrap()).expect(200);
        assert!(ran.err.contains(named), "{args:?}: {}", ran.err);
        assert_eq!(ran.err.lines().count(), 1, "{}", ran.err);
    }
}

#[test]
fn a_store_of_an_unknown_type_is_refused_and_no_folder_is_made_of_its_name() {
    let world = World::new();
    world.collection("src");
    for (typed, said) in [
        ("rclone:foo", "`rclone:foo` names no kind of store: mill knows folders and s3://BUCKET/PREFIX"),
        ("gs://bucket/x", "`gs://bucket/x` names no kind of store"),
        ("s3:/bucket/x", "write `s3://bucket/x`"),
    ] {
        for args in [["src", typed], [typed, "dst"]] {
            let ran = world.mill(&[&["mirror"], &args[..]].concat()).expect(200);
            assert!(ran.err.contains(said) && ran.err.contains(&format!("`./{typed}`")), "{}", ran.err);
        }
    }
    assert!(!world.path("rclone:foo").exists() && !world.path("dst").exists());
    world.mill(&["mirror", "src", "./rclone:foo"]).expect(0);
    world.same("src", "rclone:foo");
}

#[test]
fn a_folder_that_may_not_be_written_is_told_with_whom_to_give_the_right() {
    let world = World::new();
    world.collection("src");
    std::fs::create_dir(world.path("state")).unwrap();
    std::fs::create_dir(world.path("closed")).unwrap();
    std::fs::set_permissions(world.path("closed"), std::fs::Permissions::from_mode(0o555)).unwrap();
    let ran = world.as_nobody(&["mirror", "src", "closed"]).expect(100);
    let said = "the store cannot be used: Permission denied (os error 13); give the user with the id ";
    assert!(ran.out.contains(said), "{}", ran.out);
    assert_eq!((ran.out.matches("Permission denied").count(), ran.err.as_str()), (1, ""), "{}", ran.out);
}
