//! One blocking question to one server, through its Unix socket.
//!
//! For setting up and for tests, where a connection per question costs nothing that matters.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use bytes::BytesMut;

use crate::cli::packets::{self, Answer, Listener};
use crate::cli::problem::Problem;

/// How long a server may be silent.
const PATIENCE: Duration = Duration::from_secs(60);

/// Connects to `socket` as `user`, runs `sql` (several statements may be given, the last result counts) and leaves.
///
/// # Errors
/// [`Problem::Io`] when the socket fails or is silent for a minute, [`Problem::Refused`] when the server reports an error.
pub fn ask(socket: &Path, user: &str, database: &str, sql: &str) -> Result<Answer, Problem> {
    let what = || Problem::io(format!("asking {}", socket.display()));
    let mut stream = UnixStream::connect(socket).map_err(what())?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(what())?;
    stream.set_write_timeout(Some(PATIENCE)).map_err(what())?;
    let mut input = BytesMut::new();
    say(&mut stream, &packets::startup(user, database)).map_err(what())?;
    hear(&mut stream, &mut input)?;
    say(&mut stream, &packets::query(sql)).map_err(what())?;
    let answer = hear(&mut stream, &mut input)?;
    say(&mut stream, &packets::TERMINATE).map_err(what())?;
    Ok(answer)
}

fn say(stream: &mut UnixStream, packet: &[u8]) -> std::io::Result<()> {
    stream.write_all(packet)
}

fn hear(stream: &mut UnixStream, input: &mut BytesMut) -> Result<Answer, Problem> {
    let mut listener = Listener::default();
    let mut chunk = [0; 8192];
    loop {
        if let Some(answer) = listener.hear(input)? {
            return Ok(answer);
        }
        let count = stream
            .read(&mut chunk)
            .map_err(Problem::io("waiting for an answer"))?;
        if count == 0 {
            return Err(Problem::Protocol {
                what: "the server hung up",
            });
        }
        input.extend_from_slice(&chunk[..count]);
    }
}
