//! What the machine says of itself, from `/proc`, `/etc` and the kernel.

use std::{fs, net::UdpSocket};

use holdfast_api::attachment::Machine;

/// The facts that go into a Node object. Empty text: the machine does not say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Facts {
    pub(crate) name: String,
    pub(crate) host_name: String,
    pub(crate) architecture: String,
    pub(crate) kernel: String,
    pub(crate) os_image: String,
    pub(crate) machine_id: String,
    pub(crate) system_uuid: String,
    pub(crate) boot_id: String,
    pub(crate) addresses: Vec<String>,
    pub(crate) cpus: usize,
    /// Bytes.
    pub(crate) memory: u64,
}

impl Facts {
    pub(crate) fn read(name: &str, addresses: &[String]) -> Self {
        let uname = rustix::system::uname();
        let text = |path: &str| fs::read_to_string(path).map(|t| t.trim().to_owned()).unwrap_or_default();
        let addresses = if addresses.is_empty() { vec![outward_address()] } else { addresses.to_vec() };
        Self {
            name: name.to_owned(),
            host_name: uname.nodename().to_string_lossy().into_owned(),
            architecture: architecture(&uname.machine().to_string_lossy()),
            kernel: uname.release().to_string_lossy().into_owned(),
            os_image: pretty_name(&text("/etc/os-release")),
            machine_id: text("/etc/machine-id"),
            system_uuid: text("/sys/class/dmi/id/product_uuid"),
            boot_id: boot_id(),
            addresses,
            cpus: std::thread::available_parallelism().map_or(1, usize::from),
            memory: total_memory(&text("/proc/meminfo")),
        }
    }

    /// As attachments note it.
    pub(crate) fn machine(&self) -> Machine<'_> {
        Machine::new(&self.boot_id, &self.system_uuid, &self.machine_id)
    }
}

/// Differs after each boot; mounts of another boot are gone.
fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").map(|t| t.trim().to_owned()).unwrap_or_default()
}

/// The names that Go and so `kubernetes.io/arch` use.
fn architecture(machine: &str) -> String {
    match machine {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "i686" | "i386" => "386",
        "armv7l" | "armv6l" => "arm",
        other => other,
    }
    .to_owned()
}

/// The address from which packets would leave. Connecting a UDP socket sends nothing: it only
/// asks the routing table (192.0.2.1 is kept for documentation, RFC 5737).
fn outward_address() -> String {
    let socket = UdpSocket::bind(("0.0.0.0", 0));
    socket
        .and_then(|s| s.connect(("192.0.2.1", 9)).and_then(|()| s.local_addr()))
        .map_or_else(|_| "127.0.0.1".to_owned(), |address| address.ip().to_string())
}

/// `PRETTY_NAME` of os-release(5).
fn pretty_name(os_release: &str) -> String {
    let value = os_release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    value.unwrap_or("Linux").trim_matches('"').to_owned()
}

fn total_memory(meminfo: &str) -> u64 {
    let kib = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))
        .and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_usual_files() {
        assert_eq!(
            pretty_name("ID=debian\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\n"),
            "Debian GNU/Linux 12 (bookworm)"
        );
        assert_eq!(pretty_name(""), "Linux");
        assert_eq!(total_memory("MemTotal:       1000 kB\nMemFree: 1 kB"), 1_024_000);
        assert_eq!(architecture("x86_64"), "amd64");
        let facts = Facts::read("n1", &[]);
        assert!(!facts.boot_id.is_empty() && !facts.kernel.is_empty() && facts.memory > 0);
        assert!(facts.addresses[0].parse::<std::net::IpAddr>().is_ok());
    }
}
