//! The same PostgreSQL at more addresses: what connects to a relay is passed on.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use super::postgres::Server;

/// A relay; it stops when dropped.
pub struct Relay {
    address: SocketAddr,
    taken: Arc<AtomicUsize>,
    is_over: Arc<AtomicBool>,
    ways: Arc<Mutex<Vec<TcpStream>>>,
    /// How often the connections until then were cut off without a word.
    cuts: Arc<AtomicUsize>,
}

impl Relay {
    /// One at `ip` and a free port, before `behind`.
    pub fn start(ip: &str, behind: &Server) -> Self {
        Self::at(&format!("{ip}:0"), behind)
    }

    /// One at `ip:port`.
    pub fn at(place: &str, behind: &Server) -> Self {
        let listener = TcpListener::bind(place).expect("a loopback address and a free port");
        let relay = Self {
            address: listener.local_addr().expect("it is bound"),
            taken: Arc::default(),
            is_over: Arc::default(),
            ways: Arc::default(),
            cuts: Arc::default(),
        };
        let (taken, is_over) = (Arc::clone(&relay.taken), Arc::clone(&relay.is_over));
        let (ways, behind) = (Arc::clone(&relay.ways), behind.clone());
        let cuts = Arc::clone(&relay.cuts);
        thread::spawn(move || {
            for near in listener.incoming() {
                if is_over.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(near) = near else { continue };
                taken.fetch_add(1, Ordering::SeqCst);
                if let Ok(far) = TcpStream::connect((behind.host.as_str(), behind.port)) {
                    pass_on(near, far, &ways, &cuts);
                }
            }
        });
        relay
    }

    /// Two at one port: at 127.0.0.2 before `first`, and at 127.0.0.3 before `second`.
    pub fn pair(first: &Server, second: &Server) -> [Self; 2] {
        loop {
            let relay = Self::start("127.0.0.2", first);
            let place = format!("127.0.0.3:{}", relay.port());
            if TcpListener::bind(&place).is_ok() {
                return [relay, Self::at(&place, second)];
            }
        }
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// From now on nothing passes on the connections that are there, as where a machine loses its power; nobody is told.
    pub fn cut(&self) {
        self.cuts.fetch_add(1, Ordering::SeqCst);
    }

    /// How many connections came.
    pub fn taken(&self) -> usize {
        self.taken.load(Ordering::SeqCst)
    }
}

fn pass_on(near: TcpStream, far: TcpStream, ways: &Mutex<Vec<TcpStream>>, cuts: &Arc<AtomicUsize>) {
    let both = |stream: &TcpStream| stream.try_clone().expect("one more descriptor");
    ways.lock().unwrap().extend([both(&near), both(&far)]);
    let before = cuts.load(Ordering::SeqCst);
    for (mut from, mut to) in [(both(&near), both(&far)), (far, near)] {
        let cuts = Arc::clone(cuts);
        thread::spawn(move || {
            let mut bytes = vec![0; 1 << 16];
            while let Ok(count @ 1..) = from.read(&mut bytes) {
                let is_cut = cuts.load(Ordering::SeqCst) > before;
                if !is_cut && to.write_all(&bytes[..count]).is_err() {
                    break;
                }
            }
            if cuts.load(Ordering::SeqCst) == before {
                drop(to.shutdown(Shutdown::Write));
            }
        });
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::SeqCst);
        drop(TcpStream::connect(self.address));
        for way in self.ways.lock().unwrap().drain(..) {
            drop(way.shutdown(Shutdown::Both));
        }
    }
}
