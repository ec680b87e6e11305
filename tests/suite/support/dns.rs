//! A name server that answers from a table, over UDP.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

const A: u16 = 1;
const SOA: u16 = 6;
const AAAA: u16 = 28;

#[derive(Default)]
struct Table {
    names: BTreeMap<String, Vec<IpAddr>>,
    zones: BTreeMap<String, u32>,
}

/// A running name server.
pub struct NameServer {
    address: SocketAddr,
    table: Arc<Mutex<Table>>,
    asked: Arc<AtomicUsize>,
}

impl NameServer {
    /// One that knows no name.
    pub fn start() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
        let server = Self {
            address: socket.local_addr().expect("it is bound"),
            table: Arc::default(),
            asked: Arc::default(),
        };
        let (table, asked) = (Arc::clone(&server.table), Arc::clone(&server.asked));
        thread::spawn(move || {
            let mut packet = [0; 1500];
            while let Ok((length, from)) = socket.recv_from(&mut packet) {
                if let Some(answer) = answer(&packet[..length], &table.lock().unwrap(), &asked) {
                    drop(socket.send_to(&answer, from));
                }
            }
        });
        server
    }

    /// The text of a `resolv.conf` that names it.
    pub fn resolv_conf(&self) -> String {
        format!(
            "nameserver {}\noptions timeout:5 attempts:3\n",
            self.address
        )
    }

    /// `name` is at `addresses`; at none, it does not exist.
    pub fn set(&self, name: &str, addresses: &[&str]) {
        let addresses: Vec<IpAddr> = addresses.iter().map(|text| text.parse().unwrap()).collect();
        let names = &mut self.table.lock().unwrap().names;
        if addresses.is_empty() {
            names.remove(name);
        } else {
            names.insert(name.into(), addresses);
        }
    }

    /// The serial number of `zone`.
    pub fn serial(&self, zone: &str, serial: u32) {
        let zones = &mut self.table.lock().unwrap().zones;
        zones.insert(zone.into(), serial);
    }

    /// How often it was asked for an IPv4 address.
    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

fn answer(packet: &[u8], table: &Table, asked: &AtomicUsize) -> Option<Vec<u8>> {
    let (mut name, mut at) = (String::new(), 12);
    while let Some(length @ 1..) = packet.get(at).copied() {
        let end = at + 1 + usize::from(length);
        name += &String::from_utf8_lossy(packet.get(at + 1..end)?);
        name.push('.');
        at = end;
    }
    let question = packet.get(12..at + 5)?;
    let kind = u16::from_be_bytes([question[question.len() - 4], question[question.len() - 3]]);
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    if kind == A {
        asked.fetch_add(1, Ordering::SeqCst);
    }
    let records: Vec<Vec<u8>> = match kind {
        A | AAAA => {
            let all = table.names.get(&name).into_iter().flatten();
            let fits = all.filter(|address| address.is_ipv4() == (kind == A));
            fits.map(|address| match address {
                IpAddr::V4(address) => address.octets().to_vec(),
                IpAddr::V6(address) => address.octets().to_vec(),
            })
            .collect()
        }
        SOA => {
            let serial = table.zones.get(&name).into_iter();
            serial
                .map(|serial| {
                    let mut record = vec![0, 0];
                    for number in [*serial, 60, 60, 60, 60] {
                        record.extend_from_slice(&number.to_be_bytes());
                    }
                    record
                })
                .collect()
        }
        _ => vec![],
    };
    let exists = table.names.contains_key(&name) || table.zones.contains_key(&name);
    let mut out = packet[..2].to_vec();
    out.extend_from_slice(&[0x85, if exists { 0x80 } else { 0x83 }, 0, 1]);
    out.extend_from_slice(&u16::try_from(records.len()).ok()?.to_be_bytes());
    out.extend_from_slice(&[0, 0, 0, 0]);
    out.extend_from_slice(question);
    for record in records {
        // The name of the question, its class, and an hour, of which nobody takes note.
        out.extend_from_slice(&[0xc0, 12]);
        out.extend_from_slice(&kind.to_be_bytes());
        out.extend_from_slice(&[0, 1, 0, 0, 0x0e, 0x10]);
        out.extend_from_slice(&u16::try_from(record.len()).ok()?.to_be_bytes());
        out.extend_from_slice(&record);
    }
    Some(out)
}
