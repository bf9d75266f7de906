//! Hosts on this machine: connected network namespaces that a test creates and removes again.

use std::fs;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// The address of the servers. Each network is isolated, so all may use the same addresses.
pub(crate) const SERVERS: &str = "10.77.0.1";

/// Where `ip` stores the names of namespaces.
const NAMED: &str = "/run/netns";

/// Servers and some hosts, each in its own namespace. They are removed with the test.
pub(crate) struct Network {
    name: String,
    hosts: Vec<&'static str>,
}

impl Network {
    pub(crate) fn new(hosts: &[&'static str]) -> Self {
        static MADE: AtomicU64 = AtomicU64::new(0);
        remove_those_of_the_dead();
        let name = format!("mill-{}-{}", std::process::id(), MADE.fetch_add(1, Ordering::Relaxed));
        let network = Self { name, hosts: hosts.to_vec() };
        let servers = network.namespace("servers");
        ip(&["netns", "add", &servers]);
        ip(&["-n", &servers, "link", "set", "lo", "up"]);
        // Nothing of it is in the machine's own namespace, so names and addresses cannot conflict.
        ip(&["-n", &servers, "link", "add", "wire", "type", "bridge"]);
        ip(&["-n", &servers, "address", "add", &format!("{SERVERS}/24"), "dev", "wire"]);
        ip(&["-n", &servers, "link", "set", "wire", "up"]);
        for (number, host) in hosts.iter().enumerate() {
            let (namespace, address) = (network.namespace(host), format!("10.77.0.{}/24", number + 2));
            ip(&["netns", "add", &namespace]);
            ip(&["-n", &servers, "link", "add", host, "type", "veth", "peer", "name", "eth", "netns", &namespace]);
            ip(&["-n", &servers, "link", "set", host, "master", "wire", "up"]);
            ip(&["-n", &namespace, "address", "add", &address, "dev", "eth"]);
            ip(&["-n", &namespace, "link", "set", "eth", "up"]);
        }
        network
    }

    fn namespace(&self, of: &str) -> String {
        format!("{}-{of}", self.name)
    }

    /// Disconnects a host: packets from it or to it are lost silently.
    pub(crate) fn cut_off(&self, host: &str) {
        ip(&["-n", &self.namespace("servers"), "link", "set", host, "down"]);
    }

    pub(crate) fn rejoin(&self, host: &str) {
        ip(&["-n", &self.namespace("servers"), "link", "set", host, "up"]);
    }

    /// The same command on a host. It is killed when the thread that starts it ends.
    pub(crate) fn on(&self, host: &str, command: &Command) -> Command {
        let mut there = Command::new("setpriv");
        there.args(["--pdeathsig", "KILL", "--", "ip", "netns", "exec", &self.namespace(host)]);
        there.arg(command.get_program()).args(command.get_args()).env_clear();
        there.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command.get_current_dir().map(|folder| there.current_dir(folder));
        there
    }

    /// Runs `work` in the servers' namespace; all that it starts is there too.
    pub(crate) fn at_the_servers<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let place = fs::File::open(Path::new(NAMED).join(self.namespace("servers"))).unwrap();
        // In its own thread, because a thread cannot return by itself.
        let there = || {
            move_into_link_name_space(place.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
            work()
        };
        std::thread::scope(|scope| scope.spawn(there).join()).unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for place in self.hosts.iter().chain(&["servers"]) {
            remove(&self.namespace(place));
        }
    }
}

/// Removes what killed tests left: it does no harm but would stay for ever.
fn remove_those_of_the_dead() {
    let names =
        fs::read_dir(NAMED).into_iter().flatten().filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    for name in names {
        let process = name.strip_prefix("mill-").and_then(|rest| rest.split('-').next()?.parse::<u32>().ok());
        if process.is_some_and(|process| !PathBuf::from(format!("/proc/{process}")).exists()) {
            remove(&name);
        }
    }
}

fn remove(namespace: &str) {
    let _ = Command::new("ip").args(["netns", "delete", namespace]).output();
}

fn ip(args: &[&str]) {
    let output = Command::new("ip").args(args).output().expect("`ip` is missing: `./test` installs it (iproute2)");
    assert!(
        output.status.success(),
        "this test makes network namespaces, so it needs root, and a kernel with bridges and veth: ip {}: {}",
        args.join(" "),
        String::from_utf8_lossy(&output.stderr)
    );
}
