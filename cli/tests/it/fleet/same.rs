//! A source and a destination in S3 that are one place under two names: the binary refuses them, and nothing is
//! written.

use std::io::copy;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::{fs, thread};

use super::within::READY;
use super::{CREDENTIALS, boto, ministack, seaweed};
use crate::world::{Ran, World, walk};

/// Another address of the same server: calls to it are forwarded.
fn another_address(of: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        for here in listener.incoming().flatten() {
            let there = TcpStream::connect(of.trim_start_matches("http://")).unwrap();
            for (mut from, mut to) in [
                (here.try_clone().unwrap(), there.try_clone().unwrap()),
                (there.try_clone().unwrap(), here.try_clone().unwrap()),
            ] {
                thread::spawn(move || {
                    let _ = copy(&mut from, &mut to);
                    let _ = to.shutdown(Shutdown::Write);
                });
            }
        }
    });
    address
}

fn mill(world: &World, args: &[&str], env: &[(&str, &str)]) -> Ran {
    Ran::of(world.command().envs(CREDENTIALS).envs(env.iter().copied()).args(args).output().unwrap())
}

fn bucket(world: &World, name: &str, keys: u32) {
    boto(
        world,
        &format!(
            "s3 = client('s3', '{}')
s3.create_bucket(Bucket='{name}')
for n in range({keys}):
    s3.put_object(Bucket='{name}', Key=f'photos/{{n}}', Body=b'x' * n)",
            ministack()
        ),
    );
}

/// Every key of every version of a bucket, and every deletion.
fn versions(world: &World, name: &str) -> String {
    boto(
        world,
        &format!(
            "found = client('s3', '{}').list_object_versions(Bucket='{name}')
print([o['Key'] for o in found.get('Versions', []) + found.get('DeleteMarkers', [])])",
            ministack()
        ),
    )
}

#[test]
fn one_bucket_under_two_addresses_is_refused_and_nothing_is_written() {
    let (world, endpoint) = (World::new(), ministack());
    bucket(&world, "same", 3);
    let before = versions(&world, "same");
    let (port, proxy) = (endpoint.rsplit(':').next().unwrap(), another_address(endpoint));
    let otherwise =
        [format!("{endpoint}/"), format!("HTTP://127.0.0.1:{port}"), format!("http://localhost:{port}"), proxy];
    let refused = |source: &[&str], destination: &[&str], env: &[(&str, &str)]| {
        for (from, to) in
            [("s3://same", "s3://same/copy"), ("s3://same/photos", "s3://same"), ("s3://same", "s3://same")]
        {
            let args = [&["mirror", from, to, "--remove-vanished", "--json"], source, destination].concat();
            let ran = mill(&world, &args, env);
            assert!(ran.err.contains("hold the same objects"), "{args:?} {env:?}: {}", ran.err);
            ran.expect(200);
        }
    };
    for other in &otherwise {
        refused(&["--source-endpoint", endpoint], &["--destination-endpoint", other], &[]);
        refused(&[], &["--destination-endpoint", other], &[("AWS_ENDPOINT_URL", endpoint)]);
    }
    refused(
        &["--source-endpoint", endpoint],
        &[],
        &[("AWS_ENDPOINT_URL_S3", endpoint), ("AWS_ENDPOINT_URL", "http://127.0.0.1:9")],
    );
    world.write("home/.aws/config", format!("[profile nas]\nregion = us-east-1\nendpoint_url = {endpoint}\n"));
    world.write("home/.aws/credentials", "[nas]\naws_access_key_id = test\naws_secret_access_key = test\n");
    refused(&["--source-profile", "nas"], &["--destination-endpoint", endpoint], &[]);
    assert_eq!(versions(&world, "same"), before);
}

#[test]
fn a_bucket_that_is_a_space_of_the_source_is_refused_by_check_and_by_a_run() {
    let (world, endpoint) = (World::new(), ministack());
    bucket(&world, "ovl-copy", 3);
    bucket(&world, "ovl-photos", 3);
    let before = [versions(&world, "ovl-copy"), versions(&world, "ovl-photos")];
    let stores = |second: &str| {
        let first = format!(
            r#"{{"id": "1", "type": "s3", "bucketPrefix": "ovl-", "endpoint": "{endpoint}", "pathStyle": true, "primary": true}}"#
        );
        world.write(
            "policies/a-stores.json",
            format!(r#"{{"stores": [{first}, {{"id": "2", "type": "s3", {second}}}]}}"#),
        );
    };
    world.mill(&["init", "."]).expect(0);
    world.write("policies/duplication-accounts.json", r#"["a"]"#);
    let policy = r#"{"removeVanished": true, "defaultPolicies": [{"srcStoreId": "1", "destStoreId": "2"}]}"#;
    world.write("policies/a-duplication-policy.json", policy);
    // By the text of the file.
    stores(&format!(r#""bucket": "ovl-copy", "endpoint": "{endpoint}/", "pathStyle": true"#));
    let checked = mill(&world, &["policy", "check"], &[]).expect(100);
    assert!(checked.out.contains("1 error,"), "{}", checked.out);
    // By the environment.
    stores(r#""bucket": "ovl-copy", "pathStyle": true"#);
    let env = [("AWS_ENDPOINT_URL", endpoint)];
    let checked = mill(&world, &["policy", "check"], &env).expect(100);
    assert!(checked.out.contains("hold the same objects"), "{}", checked.out);
    mill(&world, &["policy", "check"], &[("AWS_ENDPOINT_URL", "http://127.0.0.1:9")]).expect(0);
    let ran = mill(&world, &["run", "--json"], &env).expect(200);
    assert!(ran.out.contains("hold the same objects"), "{}", ran.out);
    // When names are not enough.
    stores(&format!(r#""bucket": "ovl-copy", "endpoint": "{}", "pathStyle": true"#, another_address(endpoint)));
    mill(&world, &["policy", "check"], &[]).expect(0);
    let ran = mill(&world, &["run", "--json"], &[]).expect(200);
    assert!(ran.out.contains("hold the same objects"), "{}", ran.out);
    assert_eq!([versions(&world, "ovl-copy"), versions(&world, "ovl-photos")], before);
}

#[test]
fn two_destinations_in_one_bucket_are_named_by_policy_check() {
    let world = World::new();
    world.mill(&["init", "."]).expect(0);
    world.write("policies/duplication-accounts.json", r#"["a", "b"]"#);
    for account in ["a", "b"] {
        let policy = r#"{"defaultPolicies": [{"srcStoreId": "1", "destStoreId": "2"}]}"#;
        world.write(&format!("policies/{account}-duplication-policy.json"), policy);
        world.write(
            &format!("policies/{account}-stores.json"),
            format!(
                r#"{{"stores": [{{"id": "1", "type": "folder", "root": "{account}", "primary": true}},
                  {{"id": "2", "type": "s3", "bucket": "copies", "region": "eu-central-1"}}]}}"#
            ),
        );
    }
    let checked = mill(&world, &["policy", "check"], &[]).expect(100);
    assert!(checked.out.contains("are both written"), "{}", checked.out);
}

/// Only the first of the two keys has a place at the destination, whichever of them is copied first.
#[test]
fn a_key_that_seaweed_keeps_under_another_name_is_never_called_copied() {
    let (world, endpoint, weed) = (World::new(), ministack(), seaweed::start());
    let there = format!("s3 = client('s3', '{weed}', '{}', '{}')", seaweed::KEY, seaweed::SECRET);
    boto(&world, &format!("{there}{READY}"));
    let here = format!("s3 = client('s3', '{endpoint}')");
    boto(
        &world,
        &format!(
            "{here}
for name, keys in [('both', ['dbl/slash', 'dbl//slash', 'plain']), ('alone', ['dbl//slash', 'plain'])]:
    s3.create_bucket(Bucket=name)
    for key in keys:
        s3.put_object(Bucket=name, Key=key, Body=key.encode())
{there}
for name in ['both', 'alone']:
    s3.create_bucket(Bucket=name + '-copy')"
        ),
    );
    let keys = format!("[weed]\naws_access_key_id = {}\naws_secret_access_key = {}\n", seaweed::KEY, seaweed::SECRET);
    world.write("home/.aws/credentials", keys);
    for (source, kept) in [("both", &["dbl/slash", "plain"][..]), ("alone", &["plain"])] {
        let (from, to) = (format!("s3://{source}"), format!("s3://{source}-copy"));
        let ends = ["--source-endpoint", endpoint, "--destination-endpoint", &weed, "--destination-profile", "weed"];
        // A second time: the refused key is still reported and still absent.
        for copied in [kept.len(), 0] {
            let ran = mill(&world, &[&["mirror", &from, &to, "--json"], &ends[..]].concat(), &[]).expect(2);
            // The key with its own place is updated if the other key's bytes came there first.
            let counted = |name: &str| ran.json()[name].as_u64().unwrap();
            assert_eq!(counted("copied") + counted("updated"), copied as u64, "{source}: {}", ran.out);
            assert!(ran.out.contains("dbl//slash"), "{source}: {}", ran.out);
        }
        let found = boto(
            &world,
            &format!(
                "{there}
for object in s3.list_objects_v2(Bucket='{source}-copy').get('Contents', []):
    print(object['Key'], s3.get_object(Bucket='{source}-copy', Key=object['Key'])['Body'].read().decode())"
            ),
        );
        let expected: Vec<String> = kept.iter().map(|key| format!("{key} {key}")).collect();
        assert_eq!(found.lines().collect::<Vec<_>>(), expected, "{source}");
    }
}

/// Searches every file under the world's folder, and every printed byte.
fn is_written_anywhere(world: &World, ran: &Ran, secret: &str) -> bool {
    let files = walk(&world.path(".")).into_iter().filter(|path| path.is_file() && !path.ends_with("mill.toml"));
    files
        .filter_map(|path| fs::read(path).ok())
        .any(|text| text.windows(secret.len()).any(|part| part == secret.as_bytes()))
        || ran.out.contains(secret)
        || ran.err.contains(secret)
}

#[test]
fn an_address_that_bears_credentials_is_refused_and_written_nowhere() {
    let world = World::new();
    world.write("src/a", "a");
    let with = "http://user:hunter2@127.0.0.1:9";
    let query = "http://127.0.0.1:9/?token=hunter2";
    for (args, env) in [
        (&["mirror", "src", "s3://b", "--destination-endpoint", with][..], None),
        (&["mirror", "s3://b", "dst", "--source-endpoint", with], None),
        (&["mirror", "s3://b", "dst", "--source-endpoint", query], None),
        (&["mirror", "src", "s3://b"], Some(("AWS_ENDPOINT_URL", with))),
        (&["mirror", "s3://b", "s3://c"], Some(("AWS_ENDPOINT_URL_S3", with))),
        (&["--log", "trace", "mirror", "src", "s3://b"], Some(("AWS_ENDPOINT_URL_S3", with))),
    ] {
        let ran = mill(&world, args, &env.into_iter().collect::<Vec<_>>());
        assert!(ran.err.contains("AWS_SECRET_ACCESS_KEY"), "it says where they belong: {}", ran.err);
        assert!(!is_written_anywhere(&world, &ran, "hunter2"), "{args:?} {env:?}: {}", ran.err);
        ran.expect(200);
    }
    world.mill(&["init", "."]).expect(0);
    world.write("mill.toml", format!("[engine]\ntype = \"aws\"\nendpoint = \"{with}\"\n"));
    let ran = mill(&world, &["status"], &[]);
    assert!(!is_written_anywhere(&world, &ran, "hunter2"), "{}", ran.err);
    ran.expect(200);
}

#[test]
fn what_a_mirror_keeps_of_its_own_is_its_users_alone() {
    let world = World::new();
    world.write("src/a", "a");
    // As an earlier version may have left it.
    world.mirror(&[]).expect(0);
    let state = walk(&world.path("state")).into_iter().find(|path| path.ends_with("pair.txt")).unwrap();
    let folder = state.parent().unwrap().to_owned();
    let mode = |path: &std::path::Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    mode(&folder, 0o755);
    mode(&state, 0o644);
    world.mirror(&[]).expect(0);
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&folder), mode(&state)), (0o700, 0o600));
}
