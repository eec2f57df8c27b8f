//! Two network namespaces that are connected by a pair of virtual Ethernet devices (veth(4)).
//!
//! The namespaces have no names. Only the sockets hold them, so that the kernel removes namespaces and devices when the sockets
//! are closed, also after a panic.

use std::fs::File;
use std::io;
use std::net::UdpSocket;
use std::os::fd::{AsFd, AsRawFd};
use std::process::Command;

use rustix::thread::{move_into_link_name_space, unshare_unsafe, LinkNameSpaceType, UnshareFlags};

use super::round_trips::connect;

/// Returns two connected sockets, each in a network namespace of its own.
pub fn sockets() -> io::Result<[UdpSocket; 2]> {
    // The namespaces of a thread end with the thread.
    std::thread::spawn(|| connect(create_sockets()?)).join().expect("the thread does not panic")
}

fn create_sockets() -> io::Result<[UdpSocket; 2]> {
    let first = enter_new_namespace()?;
    let second = enter_new_namespace()?;
    // Another process can open the namespace by this path.
    let path = format!("/proc/{}/fd/{}", std::process::id(), first.as_raw_fd());
    ip(&["link", "add", "veth-b", "type", "veth", "peer", "name", "veth-a", "netns", &path])?;
    // The addresses are reserved for documentation (RFC 5737).
    move_into_link_name_space(first.as_fd(), Some(LinkNameSpaceType::Network))?;
    let a = create_socket("veth-a", "192.0.2.1")?;
    move_into_link_name_space(second.as_fd(), Some(LinkNameSpaceType::Network))?;
    Ok([a, create_socket("veth-b", "192.0.2.2")?])
}

fn enter_new_namespace() -> io::Result<File> {
    // SAFETY: the function is unsafe because a thread may stop sharing its descriptors, and this flag does not do that.
    unsafe { unshare_unsafe(UnshareFlags::NEWNET) }?;
    File::open("/proc/thread-self/ns/net")
}

/// Configures the device, which is in the namespace of this thread.
fn create_socket(device: &str, address: &str) -> io::Result<UdpSocket> {
    ip(&["address", "add", &format!("{address}/30"), "dev", device])?;
    ip(&["link", "set", device, "up"])?;
    UdpSocket::bind((address, 0))
}

fn ip(arguments: &[&str]) -> io::Result<()> {
    // The PATH of a user may lack the directories of the administrator.
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    let output = Command::new("ip").env("PATH", path).args(arguments).output();
    let output = output.map_err(|error| io::Error::new(error.kind(), format!("ip, of iproute2: {error}")))?;
    match output.status.success() {
        true => Ok(()),
        false => {
            let message = String::from_utf8_lossy(&output.stderr);
            Err(io::Error::other(format!("ip {}: {}", arguments.join(" "), message.trim())))
        }
    }
}
