//! Packets with open descriptors, from one process to another over a Unix socket.
//!
//! On the wire a packet is its length (four bytes), how many descriptors come with it (one byte), and its bytes. The kernel hands
//! descriptors over with the first byte of the write that they came with, in order; so they are counted, not placed.

use std::collections::VecDeque;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::cmsg_space;
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use tokio::io::Interest;
use tokio::net::UnixStream;

/// So many descriptors may come with one packet.
const MOST: usize = 2;
/// Length and count.
const HEAD: usize = 5;
/// The largest packet.
const LARGEST: usize = 1 << 30;
/// How long to wait when as many descriptors are on their way as the system allows.
const CROWDED: Duration = Duration::from_millis(2);

/// What is sent at once.
#[derive(Debug, Default)]
pub struct Packet {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// The descriptors that come with it, at most two.
    pub descriptors: Vec<OwnedFd>,
}

/// One end of a way on which packets go.
#[derive(Debug)]
pub struct Way {
    socket: UnixStream,
    read: Vec<u8>,
    come: VecDeque<OwnedFd>,
}

impl Way {
    /// Over `socket`, from which nothing has been read that belongs to a packet.
    pub fn over(socket: UnixStream) -> Self {
        Self {
            socket,
            read: Vec::new(),
            come: VecDeque::new(),
        }
    }

    /// The process at the other end.
    pub fn peer(&self) -> Option<u32> {
        let pid = self.socket.peer_cred().ok()?.pid()?;
        u32::try_from(pid).ok()
    }

    /// Sends a packet. Not cancel-safe: some of it may have been sent.
    ///
    /// # Errors
    /// What the kernel answers, first of all that nobody is there any more.
    pub async fn send(&self, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        let length = u32::try_from(bytes.len()).ok();
        let length = length.filter(|_| bytes.len() <= LARGEST && descriptors.len() <= MOST);
        let length = length.ok_or(io::ErrorKind::InvalidInput)?;
        let mut packet = Vec::with_capacity(HEAD + bytes.len());
        packet.extend_from_slice(&length.to_be_bytes());
        packet.push(u8::try_from(descriptors.len()).unwrap_or(u8::MAX));
        packet.extend_from_slice(bytes);
        let (mut rest, mut with) = (&packet[..], descriptors);
        while !rest.is_empty() {
            let send = || send_some(&self.socket, rest, with);
            match self.socket.async_io(Interest::WRITABLE, send).await {
                Ok(sent) => (rest, with) = (&rest[sent..], &[]),
                Err(error) if is_crowded(&error) => tokio::time::sleep(CROWDED).await,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// The next packet. Cancel-safe: what has come of it is kept.
    ///
    /// # Errors
    /// [`io::ErrorKind::UnexpectedEof`] when the other end is gone; [`io::ErrorKind::InvalidData`] for what is no packet.
    pub async fn next(&mut self) -> io::Result<Packet> {
        loop {
            if let Some(packet) = self.take()? {
                return Ok(packet);
            }
            let socket = &self.socket;
            let (read, come) = (&mut self.read, &mut self.come);
            let count = socket
                .async_io(Interest::READABLE, || receive_some(socket, read, come))
                .await?;
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    fn take(&mut self) -> io::Result<Option<Packet>> {
        let Some([a, b, c, d, count]) = self.read.get(..HEAD) else {
            return Ok(None);
        };
        let length = usize::try_from(u32::from_be_bytes([*a, *b, *c, *d])).unwrap_or(usize::MAX);
        let count = usize::from(*count);
        if length > LARGEST || count > MOST {
            return Err(io::ErrorKind::InvalidData.into());
        }
        if self.read.len() < HEAD + length {
            return Ok(None);
        }
        if self.come.len() < count {
            // The kernel had no room for them in this process.
            return Err(io::ErrorKind::InvalidData.into());
        }
        let rest = self.read.split_off(HEAD + length);
        let mut bytes = std::mem::replace(&mut self.read, rest);
        bytes.drain(..HEAD);
        Ok(Some(Packet {
            bytes,
            descriptors: self.come.drain(..count).collect(),
        }))
    }
}

fn is_crowded(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::TOOMANYREFS.raw_os_error())
}

fn send_some(socket: impl AsFd, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(MOST))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() {
        control.push(SendAncillaryMessage::ScmRights(descriptors));
    }
    let bytes = [IoSlice::new(bytes)];
    Ok(sendmsg(socket, &bytes, &mut control, SendFlags::NOSIGNAL)?)
}

fn receive_some(
    socket: impl AsFd,
    read: &mut Vec<u8>,
    come: &mut VecDeque<OwnedFd>,
) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(MOST))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut scratch = [0; 16_384];
    let mut bytes = [IoSliceMut::new(&mut scratch)];
    let received = recvmsg(socket, &mut bytes, &mut control, RecvFlags::CMSG_CLOEXEC)?;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(descriptors) = message {
            come.extend(descriptors);
        }
    }
    read.extend_from_slice(&scratch[..received.bytes]);
    Ok(received.bytes)
}

#[cfg(test)]
mod tests {
    use super::Way;
    use std::fs::File;
    use std::io::{self, Read as _, Seek as _, Write as _};
    use std::os::fd::{AsFd as _, OwnedFd};
    use tokio::net::UnixStream;

    /// An open file that holds `text`.
    fn file(text: &str) -> File {
        let name = format!("pooler-passing-{}-{text}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let mut options = File::options();
        let mut file = options
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(&path)
            .unwrap();
        std::fs::remove_file(path).unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file.rewind().unwrap();
        file
    }

    fn text(descriptor: OwnedFd) -> String {
        let mut text = String::new();
        File::from(descriptor).read_to_string(&mut text).unwrap();
        text
    }

    #[tokio::test]
    async fn packets_come_in_order_each_with_its_own_descriptors() {
        let (here, there) = UnixStream::pair().unwrap();
        let (here, mut there) = (Way::over(here), Way::over(there));
        let sending = async move {
            let (one, two, three) = (file("one"), file("two"), file("three"));
            here.send(b"none", &[]).await.unwrap();
            here.send(b"first", &[one.as_fd()]).await.unwrap();
            here.send(&vec![7; 1 << 20], &[two.as_fd(), three.as_fd()])
                .await
                .unwrap();
            here.send(b"", &[]).await.unwrap();
        };
        let receiving = async {
            let none = there.next().await.unwrap();
            assert_eq!((&none.bytes[..], none.descriptors.len()), (&b"none"[..], 0));
            let first = there.next().await.unwrap();
            assert_eq!(first.bytes, b"first");
            let texts: Vec<_> = first.descriptors.into_iter().map(text).collect();
            assert_eq!(texts, ["one"]);
            let large = there.next().await.unwrap();
            assert_eq!(large.bytes.len(), 1 << 20);
            let texts: Vec<_> = large.descriptors.into_iter().map(text).collect();
            assert_eq!(texts, ["two", "three"]);
            assert!(there.next().await.unwrap().bytes.is_empty());
            let end = there.next().await.unwrap_err();
            assert_eq!(end.kind(), io::ErrorKind::UnexpectedEof);
        };
        tokio::join!(sending, receiving);
    }

    #[tokio::test]
    async fn who_has_gone_is_noticed() {
        let (here, there) = UnixStream::pair().unwrap();
        drop(there);
        let error = Way::over(here).send(b"x", &[]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }
}
