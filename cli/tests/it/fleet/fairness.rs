//! Two accounts: one whose destination is far away and takes two transfers at once, and one with everything on this
//! disk.

use std::fs;
use std::path::Path;
use std::time::Duration;

use super::proxy::{Mood, Proxy};
use super::{CREDENTIALS, Workman, boto, ministack, signature_server};
use crate::world::{Ran, World, walk};

/// Items of the account whose destination is far away: half more than four workmen have slots.
const SLOW: usize = 80;
const QUICK: usize = 40;
/// For a small queue: more than it holds.
const SLOW_MORE: usize = 120;
const QUICK_MORE: usize = 90;

struct Trial {
    world: World,
    /// In front of the store that is far away.
    proxy: Proxy,
}

impl Trial {
    /// `engine` is the engine's part of the configuration. The slow account's tasks come first in the queue.
    fn new(engine: &str) -> Self {
        let world = World::new();
        fs::create_dir_all(world.path("vendor/copies")).unwrap();
        let proxy = Proxy::before(&signature_server::serve(&world.path("vendor"), "KEY", "a secret"), 1);
        world.mill(&["init", "."]).expect(0);
        world.write("mill.toml", format!("{engine}\n[workman]\nworkers = 8\nidle-backoff = \"200ms\"\n"));
        world.write("secret", "a secret\n");
        world.write("policies/duplication-accounts.json", r#"["a-slow", "b-quick"]"#);
        let far = format!(
            r#""type": "s3", "endpoint": "{}", "region": "us-east-1", "pathStyle": true, "bucketPrefix": "copies",
               "credentials": {{"accessKeyIdEnv": "OTHER_KEY", "secretAccessKeyFile": "secret"}}"#,
            proxy.address()
        );
        let near = r#""type": "folder", "root": "b-quick/two""#;
        for (account, items, more, destination) in
            [("a-slow", SLOW, r#", "workers": 2"#, &*far), ("b-quick", QUICK, "", near)]
        {
            world.write(
                &format!("policies/{account}-stores.json"),
                format!(
                    r#"{{"stores": [{{"id": "1", "type": "folder", "root": "{account}/one", "primary": true}},
                                    {{"id": "2", {destination}}}]}}"#
                ),
            );
            world.write(
                &format!("policies/{account}-duplication-policy.json"),
                format!(r#"{{"defaultPolicies": [{{"srcStoreId": "1", "destStoreId": "2"}}]{more}}}"#),
            );
            for item in 0..items {
                world.write(&format!("{account}/one/space/item-{item}"), format!("{account} {item}"));
            }
        }
        fs::create_dir_all(world.path("b-quick/two")).unwrap();
        Self { world, proxy }
    }

    /// Nobody has set a cap for the slow account.
    fn without_a_cap(self) -> Self {
        let file = "policies/a-slow-duplication-policy.json";
        let policy = fs::read_to_string(self.world.path(file)).unwrap();
        self.world.write(file, policy.replace(r#", "workers": 2"#, ""));
        self
    }

    /// All of the quick account is copied while the store of the other answers nothing at all.
    fn quick_comes_while_the_other_hangs(&self, workmen: usize) {
        self.mill(&["produce", "duplication"]).expect(0);
        self.proxy.set(Mood::Far(Duration::from_hours(1)));
        let mut workmen: Vec<Workman> = (0..workmen).map(|_| Workman::begin(self.command())).collect();
        while self.copies("b-quick/two") < QUICK {
            assert_eq!(self.copies("vendor"), 0, "what hangs does not end");
            let log = || fs::read_to_string(self.world.path("log")).unwrap_or_default();
            assert!(workmen.iter_mut().all(Workman::lives), "{}", log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Far more items of the slow account than the queue may hold, and a small queue.
    fn with_a_small_queue(self) -> Self {
        for item in SLOW..SLOW_MORE {
            self.world.write(&format!("a-slow/one/space/item-{item}"), format!("a-slow {item}"));
        }
        for item in QUICK..QUICK_MORE {
            self.world.write(&format!("b-quick/one/space/item-{item}"), format!("b-quick {item}"));
        }
        let config = fs::read_to_string(self.world.path("mill.toml")).unwrap();
        self.world.write("mill.toml", format!("{config}\n[producer]\nqueue-max = 40\nnibble = 10\n"));
        self
    }

    fn tasks_waiting(&self) -> u64 {
        let status = self.mill(&["status", "--json"]).expect(0).json();
        let low = status["queues"].as_array().unwrap().iter().find(|queue| queue["name"] == "duplication-low").unwrap();
        low["visible"].as_u64().unwrap()
    }

    /// The quick account has loop after loop, one each second, while the store of the other answers nothing at all and
    /// its loop does not end.
    fn quick_has_loop_after_loop(&self) {
        let config = fs::read_to_string(self.world.path("mill.toml")).unwrap();
        self.world.write("mill.toml", format!("{config}frequency = \"1s\"\n"));
        let mut stays = Workman::doing(self.command(), &["produce", "duplication", "--stay"]);
        while self.tasks_waiting() < 40 {
            assert!(stays.lives());
            std::thread::sleep(Duration::from_millis(50));
        }
        self.proxy.set(Mood::Far(Duration::from_hours(1)));
        let mut works = Workman::begin(self.command());
        for round in 0..3 {
            while self.copies("b-quick/two") < QUICK_MORE + round {
                assert_eq!(self.copies("vendor"), 0, "what hangs does not end");
                let log = || fs::read_to_string(self.world.path("log")).unwrap_or_default();
                assert!(stays.lives() && works.lives(), "{}", log());
                std::thread::sleep(Duration::from_millis(50));
            }
            // Only a loop that begins later finds it.
            self.world.write(&format!("b-quick/one/space/item-new-{round}"), format!("new in {round}"));
        }
        let status = self.mill(&["status", "--json"]).expect(0).json();
        let runs = status["duplication_producer"]["runs"].as_array().unwrap().clone();
        let of = |account: &str| runs.iter().find(|run| run["account"] == account).unwrap().clone();
        assert!(of("a-slow")["run_finished"].is_null(), "{status}");
        let [slow, quick] =
            ["a-slow", "b-quick"].map(|account| of(account)["run_started"].as_str().unwrap().to_owned());
        assert!(slow < quick, "{status}");
        assert_eq!(status["duplication_producer"]["run_finished"], serde_json::Value::Null, "{status}");
    }

    /// The quick account is copied, and with a producer that keeps running it has loop after loop, one each second,
    /// while the store of the other answers nothing at all from the beginning: neither its spaces nor a listing.
    fn quick_goes_on_while_the_other_is_never_listed(&self, args: &[&str], works: bool, loops: usize) {
        let config = fs::read_to_string(self.world.path("mill.toml")).unwrap();
        self.world.write("mill.toml", format!("{config}\n[producer]\nfrequency = \"1s\"\n"));
        self.proxy.set(Mood::Far(Duration::from_hours(1)));
        let mut processes = vec![Workman::doing(self.command(), args)];
        if works {
            processes.push(Workman::begin(self.command()));
        }
        for round in 0..loops {
            while self.copies("b-quick/two") < QUICK + round {
                let log = || fs::read_to_string(self.world.path("log")).unwrap_or_default();
                assert!(processes.iter_mut().all(Workman::lives), "{args:?}: {}", log());
                assert!(!log().contains("is asked again"), "its time limits came before the copies: {}", log());
                std::thread::sleep(Duration::from_millis(50));
            }
            // Only a loop that begins later finds it.
            self.world.write(&format!("b-quick/one/space/item-new-{round}"), format!("new in {round}"));
        }
        assert_eq!(self.copies("vendor"), 0, "what hangs does not end");
        let status = self.mill(&["status", "--json"]).expect(0).json();
        assert_eq!(status["duplication_producer"]["run_finished"], serde_json::Value::Null, "{status}");
    }

    fn command(&self) -> std::process::Command {
        let mut command = self.world.command();
        command.envs(CREDENTIALS).env("OTHER_KEY", "KEY");
        command
    }

    fn mill(&self, args: &[&str]) -> Ran {
        Ran::of(self.command().args(args).output().unwrap())
    }

    fn copies(&self, under: &str) -> usize {
        let is_item = |path: &Path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("item-"));
        let root = self.world.path(under);
        if root.is_dir() { walk(&root).iter().filter(|path| is_item(path)).count() } else { 0 }
    }

    /// The quick account is done before the slow one has filled the queue, with a producer that keeps running and one
    /// workman.
    fn quick_has_its_share(&self) {
        self.proxy.set(Mood::Far(Duration::from_secs(8)));
        let mut stays = Workman::doing(self.command(), &["produce", "duplication", "--stay"]);
        let mut works = Workman::begin(self.command());
        loop {
            let (quick, slow) = (self.copies("b-quick/two"), self.copies("vendor"));
            let log = || fs::read_to_string(self.world.path("log")).unwrap_or_default();
            // After ten tasks of the slow account there is room for one nibble of the next account.
            assert!(slow < 12, "{slow} of the slow account came before {quick} of the quick one\n{}", log());
            assert!(stays.lives() && works.lives(), "{}", log());
            if quick == QUICK_MORE {
                break;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// All of the quick account is copied while most of the slow one is still to come, with this many workmen.
    fn quick_comes_first(&self, workmen: usize) {
        self.mill(&["produce", "duplication"]).expect(0);
        self.proxy.set(Mood::Far(Duration::from_millis(250)));
        let mut workmen: Vec<Workman> = (0..workmen).map(|_| Workman::begin(self.command())).collect();
        loop {
            let (quick, slow) = (self.copies("b-quick/two"), self.copies("vendor"));
            if quick == QUICK {
                assert!(slow < SLOW / 2, "{slow} of the slow account's items were there before");
                break;
            }
            let log = || fs::read_to_string(self.world.path("log")).unwrap_or_default();
            assert!(slow < SLOW, "all of the slow account came before {quick} of the quick one\n{}", log());
            assert!(workmen.iter_mut().all(Workman::lives), "{}", log());
            std::thread::sleep(Duration::from_millis(20));
        }
        // The slow account is copied too.
        self.proxy.set(Mood::Quiet);
        while self.copies("vendor") < SLOW {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Two processes of one installation share it.
#[test]
fn a_cap_holds_over_processes_and_a_changed_one_is_taken_while_they_work() {
    let trial = local();
    let config = fs::read_to_string(trial.world.path("mill.toml")).unwrap();
    trial.world.write("mill.toml", format!("{config}\n").replace("[policies]\n", "[policies]\nrefresh = \"1s\"\n"));
    trial.mill(&["produce", "duplication"]).expect(0);
    trial.proxy.set(Mood::Far(Duration::from_millis(500)));
    let mut workmen = [Workman::begin(trial.command()), Workman::begin(trial.command())];
    let mut until = |what: &str, is_so: &dyn Fn(u64, usize) -> bool, most: u64| {
        let mut seen = 0;
        loop {
            seen = trial.proxy.take_puts_at_once().max(seen);
            let slow = trial.copies("vendor");
            let log = || fs::read_to_string(trial.world.path("log")).unwrap_or_default();
            assert!(seen <= most, "{seen} at once, of {most}\n{}", log());
            if is_so(seen, slow) {
                break;
            }
            assert!(slow < SLOW && workmen.iter_mut().all(Workman::lives), "{what}: {seen} at once\n{}", log());
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    until("the cap is used", &|seen, slow| seen == 2 && slow >= 8, 2);
    let file = "policies/a-slow-duplication-policy.json";
    let policy = fs::read_to_string(trial.world.path(file)).unwrap();
    trial.world.write(file, policy.replace(r#""workers": 2"#, r#""workers": 5"#));
    until("the raised cap is used", &|seen, _| seen > 2, 5);
}

fn local() -> Trial {
    Trial::new("[engine]\ntype = \"local\"\n[policies]\nfolder = \"policies\"")
}

fn fleet(prefix: &str) -> Trial {
    let endpoint = ministack();
    let trial = Trial::new(&format!(
        "[engine]\ntype = \"aws\"\nprefix = \"{prefix}\"\nendpoint = \"{endpoint}\"\n[policies]\nbucket = \"{prefix}/of\""
    ));
    boto(
        &trial.world,
        &format!(
            "s3 = client('s3', '{endpoint}')
s3.create_bucket(Bucket='{prefix}')
for file in pathlib.Path('policies').iterdir():
    s3.put_object(Bucket='{prefix}', Key='of/' + file.name, Body=file.read_bytes())"
        ),
    );
    trial.mill(&["infra", "create"]).expect(0);
    trial
}

#[test]
fn a_capped_slow_account_does_not_hold_up_another_on_one_workman() {
    local().quick_comes_first(1);
}

#[test]
fn a_capped_slow_account_does_not_hold_up_another_on_four_workmen() {
    local().quick_comes_first(4);
}

#[test]
fn a_capped_slow_account_does_not_hold_up_another_on_a_fleets_workman() {
    fleet("fairness-one").quick_comes_first(1);
}

#[test]
fn a_capped_slow_account_does_not_hold_up_another_on_a_fleet() {
    fleet("fairness-four").quick_comes_first(4);
}

#[test]
fn an_account_without_a_cap_whose_store_hangs_does_not_hold_up_another() {
    for workmen in [1, 4] {
        local().without_a_cap().quick_comes_while_the_other_hangs(workmen);
    }
}

#[test]
fn an_account_without_a_cap_whose_store_hangs_does_not_hold_up_another_on_a_fleet() {
    let trial = fleet("fairness-hangs");
    boto(
        &trial.world,
        &format!(
            r#"s3 = client('s3', '{}')
policy = '{{"defaultPolicies": [{{"srcStoreId": "1", "destStoreId": "2"}}]}}'
s3.put_object(Bucket='fairness-hangs', Key='of/a-slow-duplication-policy.json', Body=policy)"#,
            ministack()
        ),
    );
    trial.quick_comes_while_the_other_hangs(1);
}

#[test]
fn a_slow_account_has_no_more_than_its_share_of_a_small_queue() {
    local().with_a_small_queue().quick_has_its_share();
}

#[test]
fn a_slow_account_has_no_more_than_its_share_of_a_fleets_small_queue() {
    fleet("fairness-share").with_a_small_queue().quick_has_its_share();
}

#[test]
fn an_account_has_loop_after_loop_while_that_of_another_comes_to_no_end() {
    local().with_a_small_queue().quick_has_loop_after_loop();
}

#[test]
fn an_account_has_loop_after_loop_on_a_fleet_while_that_of_another_comes_to_no_end() {
    fleet("fairness-loops").with_a_small_queue().quick_has_loop_after_loop();
}

#[test]
fn an_account_has_loop_after_loop_while_the_store_of_another_answers_no_listing() {
    local().quick_goes_on_while_the_other_is_never_listed(&["produce", "duplication", "--stay"], true, 3);
}

#[test]
fn a_run_copies_an_account_while_the_store_of_another_answers_no_listing() {
    local().quick_goes_on_while_the_other_is_never_listed(&["run"], false, 1);
}
