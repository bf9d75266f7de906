//! A mirror survives temporary failures: a server that does not answer for a while, and one that often fails.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};

use mill_trials::in_mount_namespace;

use super::proxy::{Mood, Proxy};
use super::{CREDENTIALS, bucket, ministack};
use crate::world::{Ran, World, walk};

const ITEMS: usize = 40;

/// A running mirror of the bucket to `copies`.
struct Mirror(Child);

impl Mirror {
    fn begin(world: &World, bucket: &str, proxy: &Proxy, more: &[&str]) -> Self {
        let mut command = world.command();
        command.envs(CREDENTIALS).args(["mirror", &format!("s3://{bucket}"), "copies", "--json"]);
        command.args(["--source-endpoint", proxy.address()]).args(more);
        Self::start(command)
    }

    fn start(mut command: Command) -> Self {
        Self(command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap())
    }

    /// Reads its output until these words appear.
    fn says(&mut self, words: &str) {
        let mut lines = BufReader::new(self.0.stderr.as_mut().unwrap());
        let mut said = String::new();
        while !said.contains(words) {
            assert!(lines.read_line(&mut said).unwrap() > 0, "it ended without a word of `{words}`: {said}");
        }
    }

    fn end(mut self) -> Ran {
        // The rest of its output must be read, or it would block.
        let mut errors = self.0.stderr.take().unwrap();
        let reading = std::thread::spawn(move || {
            let mut said = String::new();
            errors.read_to_string(&mut said).map(|_| said)
        });
        let output = self.0.wait_with_output().unwrap();
        Ran { err: reading.join().unwrap().unwrap(), ..Ran::of(output) }
    }
}

#[test]
fn a_mirror_waits_for_a_server_that_does_not_answer_and_copies_all() {
    let world = World::new();
    let proxy = bucket(&world, "away-first", ITEMS);
    proxy.set(Mood::Away);
    let mut mirror = Mirror::begin(&world, "away-first", &proxy, &[]);
    mirror.says("the space is tried again");
    proxy.set(Mood::Quiet);
    assert_eq!(mirror.end().expect(0).json()["copied"], ITEMS);
}

/// At the first run and at a later one, which first checks that the bucket still exists.
#[test]
fn a_mirror_waits_for_a_destination_that_does_not_answer_at_its_beginning() {
    let world = World::new();
    let proxy = bucket(&world, "away-destination", ITEMS);
    for n in 0..ITEMS {
        world.write(&format!("src/{n}"), "x");
    }
    for copied in [ITEMS, 1] {
        world.write("src/0", format!("x {copied}"));
        proxy.set(Mood::Away);
        let mut command = world.command();
        command.envs(CREDENTIALS).args(["mirror", "src", "s3://away-destination/copies", "--json"]);
        command.args(["--destination-endpoint", proxy.address()]);
        let mut mirror = Mirror::start(command);
        mirror.says("does not answer");
        proxy.set(Mood::Quiet);
        let json = mirror.end().expect(0).json();
        let moved = json["copied"].as_u64().unwrap() + json["updated"].as_u64().unwrap();
        assert_eq!(moved, copied as u64, "{json}");
    }
}

#[test]
fn a_run_waits_for_a_source_that_does_not_tell_its_spaces_at_its_beginning() {
    let world = World::new();
    let proxy = bucket(&world, "away-only-spaces", ITEMS);
    world.mill(&["init", "."]).expect(0);
    world.library(r#"{"defaultPolicies": [{"srcStoreId": "1", "destStoreId": "2"}]}"#);
    let stores = format!(
        r#"{{"stores": [{{"id": "1", "type": "s3", "endpoint": "{}", "region": "us-east-1", "pathStyle": true,
                          "bucketPrefix": "away-only-", "primary": true}}, {{"id": "2", "type": "folder", "root": "two"}}]}}"#,
        proxy.address()
    );
    world.write("policies/library-stores.json", stores);
    proxy.set(Mood::Away);
    let mut command = world.command();
    command.envs(CREDENTIALS).args(["run", "--json"]);
    let mut run = Mirror::start(command);
    run.says("the store is asked again");
    proxy.set(Mood::Quiet);
    run.end().expect(0);
    assert_eq!(walk(&world.path("two/spaces")).len(), ITEMS);
}

#[test]
fn a_mirror_goes_on_when_a_server_that_went_away_is_back() {
    let world = World::new();
    let proxy = bucket(&world, "away-later", ITEMS);
    proxy.set(Mood::AwayAfter(ITEMS as u64 / 2));
    let mut mirror = Mirror::begin(&world, "away-later", &proxy, &["--workers", "4"]);
    mirror.says("a store does not answer; its tasks wait");
    proxy.set(Mood::Quiet);
    let json = mirror.end().expect(0).json();
    assert_eq!((&json["copied"], &json["dead_lettered"]), (&ITEMS.into(), &0.into()), "{json}");
    assert_eq!(walk(&world.path("copies")).len(), ITEMS);
}

/// The only host names that this test's processes know.
fn know_hosts(world: &World) {
    world.write("hosts", "");
    world.write("switch", "hosts: files\n");
    for (file, at) in [("hosts", "/etc/hosts"), ("switch", "/etc/nsswitch.conf")] {
        let status = Command::new("mount").arg("--bind").arg(world.path(file)).arg(at).status();
        assert!(status.unwrap().success());
    }
}

#[test]
fn a_host_name_that_is_gone_is_waited_for_once_the_service_has_answered_by_it() {
    let world = World::new();
    let proxy = bucket(&world, "away-by-name", ITEMS);
    in_mount_namespace(move || {
        know_hosts(&world);
        let named = proxy.address().replace("127.0.0.1", "vault.test");
        let mut command = world.command();
        command.envs(CREDENTIALS).args(["mirror", "s3://away-by-name", "copies", "--json", "--workers", "4"]);
        command.args(["--source-endpoint", &named]);
        let mistyped = Ran::of(command.output().unwrap()).expect(100);
        assert!((mistyped.out + &mistyped.err).contains("no host has this name"));

        world.write("hosts", "127.0.0.1 vault.test\n");
        proxy.set(Mood::AwayAfter(ITEMS as u64 / 2));
        let mut mirror = Mirror::start(command);
        mirror.says("a store does not answer; its tasks wait");
        world.write("hosts", "");
        proxy.set(Mood::Quiet);
        mirror.says("Name or service not known");
        world.write("hosts", "127.0.0.1 vault.test\n");
        let json = mirror.end().expect(0).json();
        assert_eq!((&json["copied"], &json["dead_lettered"]), (&ITEMS.into(), &0.into()), "{json}");
        Ok(())
    });
}

#[test]
fn a_mirror_gives_up_a_server_that_stays_away_and_names_it() {
    let world = World::new();
    let proxy = bucket(&world, "away-for-good", ITEMS);
    let gives_up = ["--give-up-after", "1s"];
    proxy.set(Mood::AwayAfter(ITEMS as u64 / 2));
    let some = Mirror::begin(&world, "away-for-good", &proxy, &["--workers", "4", gives_up[0], gives_up[1]]).end();
    let some = some.expect(50);
    assert!(
        some.out.contains("`s3://away-for-good` has let nothing through: ") && some.out.contains("does not answer"),
        "{}",
        some.out
    );
    proxy.set(Mood::Away);
    let none = Mirror::begin(&world, "away-for-good", &proxy, &gives_up).end().expect(100);
    assert!(none.out.contains("`s3://away-for-good`") && none.out.contains("does not answer"), "{}", none.out);
}

#[test]
fn a_key_that_is_always_throttled_is_given_up_by_name_and_holds_up_no_other() {
    let world = World::new();
    let proxy = bucket(&world, "slow-key", ITEMS);
    proxy.set(Mood::Answers("GET", "/item-7", 503, "SlowDown"));
    let ran = Mirror::begin(&world, "slow-key", &proxy, &["--give-up-after", "30s"]).end().expect(2);
    let json = ran.json();
    assert_eq!((&json["copied"], &json["refused"]), (&(ITEMS - 1).into(), &1.into()), "{json}");
    let remarks = json["remarks"].to_string();
    for words in
        ["not copied: `item-7`: ", "`s3://slow-key` asked to slow down at each try, and served others: SlowDown"]
    {
        assert!(remarks.contains(words), "{words}: {remarks}");
    }
    assert!(!remarks.contains("cannot be used") && !remarks.contains("let nothing through"), "{remarks}");
    proxy.set(Mood::Quiet);
    assert_eq!(Mirror::begin(&world, "slow-key", &proxy, &[]).end().expect(0).json()["copied"], 1);
}

#[test]
fn a_mirror_that_is_stopped_while_it_waits_at_its_beginning_ends_as_stopped() {
    let world = World::new();
    let proxy = bucket(&world, "stopped-early", ITEMS);
    world.write("src/a", "a");
    let mirror = || {
        let mut command = world.command();
        command.envs(CREDENTIALS).args(["mirror", "src", "s3://stopped-early/copies", "--json"]);
        command.args(["--destination-endpoint", proxy.address()]);
        Mirror::start(command)
    };
    mirror().end().expect(0);
    // A later run first checks that the bucket still exists.
    proxy.set(Mood::Away);
    let mut waiting = mirror();
    waiting.says("waits for `s3://stopped-early/copies`");
    assert!(Command::new("kill").arg("-TERM").arg(waiting.0.id().to_string()).status().unwrap().success());
    let ran = waiting.end().expect(50);
    for words in ["it was stopped before it began", "run it again"] {
        assert!(ran.err.contains(words), "{words}: {}", ran.err);
    }
    assert!(!ran.err.contains("mirror:destination"), "{}", ran.err);
}

#[test]
fn what_is_said_to_be_done_fits_how_a_run_ended() {
    let world = World::new();
    bucket(&world, "endings", ITEMS);
    let away = Mood::AwayAfter(ITEMS as u64 / 2);
    let sick = Mood::Answers("GET", "/item-7", 500, "InternalError");
    for (mood, patience, stops, words) in [
        (sick, "5m", false, "Done in part: see to what is named above, then run it again: "),
        (away, "1s", false, "Done in part: run it again: "),
        (away, "5m", true, "Stopped before its end: run it again, and it goes on: "),
    ] {
        let _ = std::fs::remove_dir_all(world.path("copies"));
        let proxy = Proxy::before(ministack(), 1);
        proxy.set(mood);
        let mut command = world.command();
        command.envs(CREDENTIALS).args(["mirror", "s3://endings", "copies", "--create", "--workers", "4"]);
        command.args(["--give-up-after", patience, "--source-endpoint", proxy.address()]);
        let mut mirror = Mirror::start(command);
        if stops {
            mirror.says("a store does not answer; its tasks wait");
            assert!(Command::new("kill").arg("-TERM").arg(mirror.0.id().to_string()).status().unwrap().success());
        }
        let ran = mirror.end().expect(50);
        assert!(ran.out.contains(words), "{words}: {}", ran.out);
    }
}

/// By quota, with a response like that of MinIO and Ceph.
#[test]
fn a_full_bucket_ends_a_mirror_at_once_and_says_what_to_do() {
    let world = World::new();
    let proxy = bucket(&world, "full", ITEMS);
    for n in 0..ITEMS {
        world.write(&format!("src/{n}"), "x");
    }
    proxy.set(Mood::Answers("P", "/full", 507, "XMinioStorageFull"));
    let mut command = world.command();
    command.envs(CREDENTIALS).args(["mirror", "src", "s3://full/copies", "--json"]);
    command.args(["--destination-endpoint", proxy.address()]);
    let ran = Mirror::start(command).end().expect(100);
    let remarks = ran.json()["remarks"].to_string();
    for words in ["`s3://full/copies` cannot be used: ", "XMinioStorageFull", "make room there, or raise its quota"] {
        assert!(remarks.contains(words), "{words}: {remarks}");
    }
}

/// A proxy from the environment that requires a user name and password.
#[test]
fn a_proxy_that_wants_a_login_is_named_without_its_password_and_is_not_waited_for() {
    let world = World::new();
    let page = "<html><body>Log in.</body></html>";
    let answer = format!(
        "HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm=\"all\"\r\n\
         Content-Type: text/html\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{page}",
        page.len()
    );
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let proxy = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut line in listener.incoming().flatten() {
            // A client that disconnects is no failure of this proxy.
            _ = line.read(&mut [0; 4096]).and_then(|_| line.write_all(answer.as_bytes()));
        }
    });
    for (variable, endpoint) in [("HTTPS_PROXY", "https://vault.test"), ("HTTP_PROXY", "http://vault.test")] {
        let mut command = world.command();
        command.envs(CREDENTIALS).env(variable, format!("http://anna:secret@{proxy}"));
        command.args(["mirror", "s3://photos", "copies", "--source-endpoint", endpoint]);
        let ran = Mirror::start(command).end().expect(100);
        let said = ran.out + &ran.err;
        let by = format!("at {endpoint}, by the proxy `http://{proxy}` of {variable}, bucket `photos`");
        for words in [by.as_str(), "HTTP 407", "the proxy wants a name and a password", "NO_PROXY"] {
            assert!(said.contains(words), "{words}: {said}");
        }
        assert!(!said.contains("secret") && !said.contains("anna"), "{said}");
    }
}

/// A proxy that refuses a tunnel to the service, because the address is not allowed or not reachable.
#[test]
fn a_proxy_that_refuses_a_tunnel_is_named_with_what_to_check() {
    let world = World::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let proxy = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut line in listener.incoming().flatten() {
            let refused = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
            // A client that disconnects is no failure of this proxy.
            _ = line.read(&mut [0; 4096]).and_then(|_| line.write_all(refused));
        }
    });
    let mut command = world.command();
    command.envs(CREDENTIALS).env("HTTPS_PROXY", format!("http://anna:secret@{proxy}"));
    command.args(["mirror", "s3://photos", "copies", "--source-endpoint", "https://vault.test"]);
    command.args(["--give-up-after", "1s"]);
    let ran = Mirror::start(command).end().expect(100);
    let said = ran.out + &ran.err;
    let by = format!("at https://vault.test, by the proxy `http://{proxy}` of HTTPS_PROXY, bucket `photos`");
    for words in
        [by.as_str(), "the proxy answers CONNECT with another status", "the proxy lets no call through", "NO_PROXY"]
    {
        assert!(said.contains(words), "{words}: {said}");
    }
    assert!(!said.contains("secret") && !said.contains("anna"), "{said}");
}

#[test]
fn no_item_is_left_behind_by_a_server_that_fails_twice_for_each() {
    let world = World::new();
    let proxy = bucket(&world, "failing", ITEMS);
    proxy.set(Mood::FailsTwice);
    let json = Mirror::begin(&world, "failing", &proxy, &[]).end().expect(0).json();
    assert_eq!((&json["copied"], &json["dead_lettered"]), (&ITEMS.into(), &0.into()), "{json}");
    assert!(proxy.failed_twice() >= ITEMS, "each was failed twice");
}
