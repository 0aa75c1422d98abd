//! The playing side of an actor: what each command does.
//!
//! # Safety
//! `fork` is only called in actors that have one thread; the option set by
//! `setsockopt` is an int that lives through the call; descriptors taken from
//! a message are this process's own, and each becomes one `OwnedFd`.
#![allow(unsafe_code, reason = "makes system calls")]

use std::collections::HashMap;
use std::ffi::CString;
use std::io::{BufRead, BufReader, IoSlice, IoSliceMut, Read, Write};
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use std::{process, thread};

use nix::errno::Errno;
use nix::sys::signal::{Signal, raise};
use nix::sys::socket::{self, ControlMessage, ControlMessageOwned, MsgFlags, SockaddrStorage};
use nix::sys::socket::{AddressFamily, Backlog, Shutdown, SockFlag, SockType, setsockopt, sockopt};
use nix::unistd::{ForkResult, Uid, getppid, gettid};
use serde_json::{Value, json};

use super::steer::steer;
use crate::common::wait;

type Sockets = Arc<Mutex<HashMap<String, Arc<OwnedFd>>>>;

/// One task, its sockets, and where it takes its commands.
pub(super) struct Part {
    control: PathBuf,
    sockets: Sockets,
    mailbox: Option<UnixDatagram>,
    steering: Vec<OwnedFd>,
}

impl Part {
    pub(super) fn new(control: PathBuf, sockets: Sockets) -> Part {
        Part {
            control,
            sockets,
            mailbox: None,
            steering: Vec::new(),
        }
    }

    /// Does as told until the test lets go.
    pub(super) fn play(mut self) {
        // Whoever gave this part may have gone already.
        let Ok(mut stream) = UnixStream::connect(&self.control) else {
            return;
        };
        let hello = json!({
            "pid": process::id(),
            "tid": gettid().as_raw(),
            "parent": getppid().as_raw(),
            "uid": Uid::effective().as_raw(),
            "comm": nix::sys::prctl::get_name().unwrap().to_str().unwrap(),
        });
        let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
        let mut answer = hello;
        loop {
            if writeln!(stream, "{answer}").is_err() {
                return;
            }
            let Some(Ok(line)) = lines.next() else { return };
            let words: Vec<&str> = line.split(' ').collect();
            if words == ["fork"] {
                // SAFETY: this actor has one thread (module documentation).
                match unsafe { nix::unistd::fork() }.expect("fork") {
                    ForkResult::Parent { child } => answer = json!({"child": child.as_raw()}),
                    ForkResult::Child => {
                        // The parent's control stream must not live on here.
                        drop(lines);
                        drop(stream);
                        Part::new(self.control, self.sockets).play();
                        process::exit(0);
                    }
                }
                continue;
            }
            answer = match self.act(&words) {
                Ok(answer) => answer,
                Err(errno) => json!({"error": format!("{errno:?}")}),
            };
        }
    }

    fn get(&self, name: &str) -> Arc<OwnedFd> {
        let sockets = self.sockets.lock().unwrap();
        sockets
            .get(name)
            .unwrap_or_else(|| panic!("no {name}"))
            .clone()
    }

    fn put(&self, name: &str, fd: OwnedFd) {
        let old = self
            .sockets
            .lock()
            .unwrap()
            .insert(name.into(), Arc::new(fd));
        assert!(old.is_none(), "two sockets {name}");
    }

    fn act(&mut self, words: &[&str]) -> Result<Value, Errno> {
        match *words {
            ["socket", name, family] => {
                let family = match family {
                    "4" => AddressFamily::Inet,
                    "mptcp" => {
                        self.put(name, mptcp()?);
                        return Ok(json!({}));
                    }
                    _ => AddressFamily::Inet6,
                };
                let flags = SockFlag::SOCK_CLOEXEC;
                self.put(name, socket::socket(family, SockType::Stream, flags, None)?);
            }
            ["option", name, level, option, value] => {
                let n = |text: &str| text.parse::<i32>().unwrap();
                set_int(&self.get(name), n(level), n(option), n(value))?;
            }
            ["device", name, device] => {
                setsockopt(&*self.get(name), sockopt::BindToDevice, &device.into())?;
            }
            ["linger", name] => {
                let now = libc::linger {
                    l_onoff: 1,
                    l_linger: 0,
                };
                setsockopt(&*self.get(name), sockopt::Linger, &now)?;
            }
            ["nonblocking", name] => {
                use nix::fcntl::{FcntlArg, OFlag, fcntl};
                fcntl(&*self.get(name), FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
            }
            ["blocking", name] => {
                use nix::fcntl::{FcntlArg, OFlag, fcntl};
                fcntl(&*self.get(name), FcntlArg::F_SETFL(OFlag::empty()))?;
            }
            ["bind", name, at] => {
                let fd = self.get(name);
                setsockopt(&*fd, sockopt::ReuseAddr, &true)?;
                socket::bind(fd.as_raw_fd(), &address(at))?;
            }
            ["listen", name] => {
                let fd = self.get(name);
                socket::listen(&*fd, Backlog::new(128).unwrap())?;
                return Ok(json!({"local": local(&fd).to_string()}));
            }
            ["connect", name, to] => {
                let fd = self.get(name);
                match socket::connect(fd.as_raw_fd(), &address(to)) {
                    Ok(()) | Err(Errno::EINPROGRESS) => {}
                    Err(errno) => return Err(errno),
                }
                return Ok(json!({"local": local(&fd).to_string()}));
            }
            ["steer", listener, port] => {
                let there = steer(&self.get(listener), port.parse().unwrap())?;
                self.steering.extend(there);
            }
            ["disconnect", name] => disconnect(&self.get(name))?,
            ["fastopen", name, to, count] => {
                let fd = self.get(name);
                let data = vec![b'f'; count.parse().unwrap()];
                let flags = MsgFlags::from_bits_retain(libc::MSG_FASTOPEN);
                let sent = socket::sendto(fd.as_raw_fd(), &data, &address(to), flags)?;
                assert_eq!(sent, data.len());
                return Ok(json!({"local": local(&fd).to_string()}));
            }
            ["accept", listener, name] => {
                let fd = socket::accept4(self.get(listener).as_raw_fd(), SockFlag::SOCK_CLOEXEC)?;
                self.put(name, own(fd));
            }
            ["local", name] => {
                return Ok(json!({"local": local(&self.get(name)).to_string()}));
            }
            ["send", name, count] => {
                let fd = self.get(name);
                let data = vec![b's'; count.parse().unwrap()];
                let mut sent = 0;
                while sent < data.len() {
                    sent += socket::send(fd.as_raw_fd(), &data[sent..], MsgFlags::MSG_NOSIGNAL)?;
                }
            }
            // That many bytes, or all to the end.
            ["receive", name, count] => {
                let fd = self.get(name);
                let want = count.parse().unwrap_or(usize::MAX);
                let mut buffer = vec![0; want.min(1 << 16)];
                let mut got = 0;
                while got < want {
                    let room = (want - got).min(buffer.len());
                    match socket::recv(fd.as_raw_fd(), &mut buffer[..room], MsgFlags::empty())? {
                        0 => break,
                        n => got += n,
                    }
                }
                assert!(got == want || want == usize::MAX, "{got} of {want} bytes");
                return Ok(json!({"bytes": got}));
            }
            ["finish", name] => socket::shutdown(self.get(name).as_raw_fd(), Shutdown::Write)?,
            ["shutdown", name] => socket::shutdown(self.get(name).as_raw_fd(), Shutdown::Both)?,
            ["close", name] => {
                let fd = self.sockets.lock().unwrap().remove(name).expect("a socket");
                // The last of this process, or the test is wrong.
                drop(Arc::into_inner(fd).expect("closed while used"));
            }
            ["comm", name] => {
                nix::sys::prctl::set_name(&CString::new(name).unwrap())?;
            }
            ["parent"] => return Ok(json!({"parent": getppid().as_raw()})),
            ["uid", uid] => {
                let uid = Uid::from_raw(uid.parse().unwrap());
                nix::unistd::setresuid(uid, uid, uid)?;
            }
            ["thread"] => {
                let part = Part::new(self.control.clone(), self.sockets.clone());
                thread::spawn(move || part.play());
            }
            ["mailbox", path] => self.mailbox = Some(UnixDatagram::bind(path).unwrap()),
            ["post", name, path] => {
                let (post, fd) = (UnixDatagram::unbound().unwrap(), self.get(name));
                post.connect(path).unwrap();
                send_fds(&post, &[fd.as_raw_fd()])?;
            }
            ["unpack", name] => {
                let mailbox = self.mailbox.take().expect("a mailbox");
                self.put(name, receive_fd(&mailbox)?);
            }
            // Leaves a socket in the queue of a socket that nobody can reach:
            // the kernel's garbage collector closes it.
            ["garbage", name] => {
                let (a, b) = UnixDatagram::pair().unwrap();
                let fd = self.sockets.lock().unwrap().remove(name).expect("a socket");
                send_fds(&b, &[a.as_raw_fd(), fd.as_raw_fd()])?;
                // The socket first, so that the last to let go of it is the collector.
                drop((fd, a, b));
                // The collector may have looked between these closes: each further one of a
                // socket of this kind makes it look again.
                for _ in 0..20 {
                    let _ = UnixDatagram::pair();
                    wait::pace(Duration::from_millis(5));
                }
            }
            ["volley", from, to, count, bytes] => {
                let from = SocketAddr::new(from.parse().unwrap(), 0);
                let data = vec![b'v'; bytes.parse().unwrap()];
                for _ in 0..count.parse().unwrap() {
                    volley(from, to, data.clone())?;
                }
            }
            // Keeps a CPU busy until that time has passed.
            ["burn", milliseconds] => {
                let end = Instant::now() + Duration::from_millis(milliseconds.parse().unwrap());
                while Instant::now() < end {
                    std::hint::black_box(0);
                }
            }
            ["serve", listener, count] => serve(&self.get(listener), count.parse().unwrap()),
            ["die"] => {
                let _ = raise(Signal::SIGKILL);
            }
            _ => panic!("what is {words:?}?"),
        }
        Ok(json!({}))
    }
}

/// One connection from an address, with so many bytes there and back; this side
/// closes first.
fn volley(from: SocketAddr, to: &str, mut data: Vec<u8>) -> Result<(), Errno> {
    const IP_BIND_ADDRESS_NO_PORT: i32 = 24;
    let flags = SockFlag::SOCK_CLOEXEC;
    let fd = socket::socket(AddressFamily::Inet, SockType::Stream, flags, None)?;
    set_int(&fd, libc::SOL_IP, IP_BIND_ADDRESS_NO_PORT, 1)?;
    socket::bind(fd.as_raw_fd(), &SockaddrStorage::from(from))?;
    socket::connect(fd.as_raw_fd(), &address(to))?;
    let mut stream = std::net::TcpStream::from(fd);
    stream.write_all(&data).expect("send");
    stream.read_exact(&mut data).expect("receive");
    Ok(())
}

/// Accepts so many connections and sends back what comes.
fn serve(listener: &OwnedFd, count: usize) {
    let listener = std::net::TcpListener::from(listener.try_clone().unwrap());
    let mut data = [0; 4096];
    for _ in 0..count {
        let (mut stream, _) = listener.accept().expect("accept");
        while let Ok(n @ 1..) = stream.read(&mut data) {
            stream.write_all(&data[..n]).expect("send");
        }
    }
}

fn address(text: &str) -> SockaddrStorage {
    SockaddrStorage::from(text.parse::<SocketAddr>().expect("an address"))
}

fn local(fd: &OwnedFd) -> SocketAddr {
    let stream = std::net::TcpStream::from(fd.try_clone().unwrap());
    stream.local_addr().unwrap()
}

fn own(fd: RawFd) -> OwnedFd {
    // SAFETY: the descriptor has just been made for this process.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

fn set_int(fd: &OwnedFd, level: i32, option: i32, value: i32) -> Result<(), Errno> {
    let size = size_of_val(&value) as libc::socklen_t;
    // SAFETY: the pointer is to an int that outlives the call, with its size.
    let result = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            level,
            option,
            (&raw const value).cast(),
            size,
        )
    };
    Errno::result(result).map(drop)
}

fn mptcp() -> Result<OwnedFd, Errno> {
    let kind = libc::SOCK_STREAM | libc::SOCK_CLOEXEC;
    // SAFETY: no pointer is given.
    let fd = unsafe { libc::socket(libc::AF_INET, kind, libc::IPPROTO_MPTCP) };
    Errno::result(fd).map(own)
}

/// `connect` to AF_UNSPEC.
fn disconnect(fd: &OwnedFd) -> Result<(), Errno> {
    let none = libc::sockaddr {
        sa_family: libc::AF_UNSPEC as libc::sa_family_t,
        sa_data: [0; 14],
    };
    let size = size_of_val(&none) as libc::socklen_t;
    // SAFETY: the pointer is to an address that outlives the call, with its size.
    Errno::result(unsafe { libc::connect(fd.as_raw_fd(), &none, size) }).map(drop)
}

fn send_fds(to: &UnixDatagram, fds: &[RawFd]) -> Result<(), Errno> {
    let data = [IoSlice::new(b"f")];
    let message = [ControlMessage::ScmRights(fds)];
    let flags = MsgFlags::empty();
    socket::sendmsg::<()>(to.as_raw_fd(), &data, &message, flags, None).map(drop)
}

fn receive_fd(from: &UnixDatagram) -> Result<OwnedFd, Errno> {
    let mut byte = [0];
    let mut data = [IoSliceMut::new(&mut byte)];
    let mut space = nix::cmsg_space!([RawFd; 1]);
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let message =
        socket::recvmsg::<()>(from.as_fd().as_raw_fd(), &mut data, Some(&mut space), flags)?;
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(fds) = control {
            return Ok(own(fds[0]));
        }
    }
    panic!("a message without a descriptor");
}
