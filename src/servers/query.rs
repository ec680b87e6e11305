//! The pooler asks a server something itself: reset and check queries, `connect_query`, `auth_query`.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::BytesMut;

use crate::error::{Error, Refusal};
use crate::protocol::fields;
use crate::protocol::message;
use crate::protocol::parameters::{Interner, is_carried};
use crate::servers::frames::Frames;
use crate::servers::server::Server;

/// The largest message that an answer to a question of ours may have.
const LARGEST: usize = 1 << 20;

/// One row of texts.
pub type Row = Vec<Option<String>>;

/// Runs `sql` as a simple query and returns the rows of its results.
///
/// # Errors
/// [`Error::ServerRefused`] with the server's words; [`Error::ServerLost`], [`Error::ServerProtocol`]: the server is then
/// of no more use.
pub async fn ask(server: &mut Server, interner: &Interner, sql: &str) -> Result<Vec<Row>, Error> {
    let mut out = BytesMut::new();
    message::query(&mut out, sql.as_bytes());
    converse(server, interner, &out).await
}

/// Runs `sql` as a simple query; each row of its results by the names of their columns, without what is NULL.
///
/// # Errors
/// As [`ask`].
pub async fn look(
    server: &mut Server,
    interner: &Interner,
    sql: &str,
) -> Result<Vec<BTreeMap<String, String>>, Error> {
    let mut out = BytesMut::new();
    message::query(&mut out, sql.as_bytes());
    let (columns, rows) = hear(server, interner, &out).await?;
    let named = |row: Row| {
        let cells = columns.iter().cloned().zip(row);
        cells
            .filter_map(|(name, cell)| Some((name, cell?)))
            .collect()
    };
    Ok(rows.into_iter().map(named).collect())
}

/// Runs `sql` with one text parameter as an extended query.
///
/// # Errors
/// As [`ask`].
pub async fn ask_with(
    server: &mut Server,
    interner: &Interner,
    sql: &str,
    value: &str,
) -> Result<Vec<Row>, Error> {
    let mut out = BytesMut::new();
    message::parse(&mut out, b"", sql.as_bytes(), &[]);
    message::bind(&mut out, b"", b"", &[Some(value.as_bytes())]);
    message::execute(&mut out, b"", 0);
    message::sync(&mut out);
    converse(server, interner, &out).await
}

async fn converse(
    server: &mut Server,
    interner: &Interner,
    question: &[u8],
) -> Result<Vec<Row>, Error> {
    let (_, rows) = hear(server, interner, question).await?;
    Ok(rows)
}

/// The names of the last result's columns, and the rows of all.
async fn hear(
    server: &mut Server,
    interner: &Interner,
    question: &[u8],
) -> Result<(Vec<String>, Vec<Row>), Error> {
    const LOST: Error = Error::ServerLost("while the pooler asked it something");
    // Whoever gives up waiting leaves an answer behind, which must not be taken for the answer to the next question.
    server.side.doomed = Some("a question of the pooler's was not answered");
    server.stream.write_all(question).await.map_err(|_| LOST)?;
    let (mut frames, mut rows, mut refusal) = (Frames::default(), Vec::new(), None);
    let mut columns = Vec::new();
    loop {
        let frame = frames
            .next(&mut server.stream, LARGEST)
            .await
            .map_err(|_| LOST)?;
        match frame.tag {
            b'T' => columns = column_names(&frame.body)?,
            b'D' => rows.push(row(&frame.body)?),
            b'E' => refusal = Some(refusal_of(&frame.body)),
            b'S' => note_parameter(server, interner, &frame.body),
            b'C' => note_command(server, &frame.body),
            b'Z' => {
                server.side.status = fields::ready_status(&frame.body).unwrap_or(b'E');
                break;
            }
            b'G' | b'W' | b'H' => {
                return Err(Error::ServerProtocol(
                    "a question of the pooler's began a COPY",
                ));
            }
            _ => {}
        }
    }
    if frames.begins_with(b"EN") {
        // It answered, and says behind its answer why it ends.
        return Err(LOST);
    }
    if !frames.is_empty() {
        return Err(Error::ServerProtocol("more than was asked for"));
    }
    server.side.doomed = None;
    refusal.map_or(Ok((columns, rows)), |refusal| {
        Err(Error::ServerRefused(refusal))
    })
}

/// The names in a RowDescription.
fn column_names(body: &[u8]) -> Result<Vec<String>, Error> {
    let columns = fields::row_description(body);
    let columns = columns.ok_or(Error::ServerProtocol("a broken description of rows"))?;
    let name = |(name, _): (&[u8], u32)| String::from_utf8_lossy(name).into_owned();
    Ok(columns.into_iter().map(name).collect())
}

fn row(body: &[u8]) -> Result<Row, Error> {
    let values = fields::data_row(body).ok_or(Error::ServerProtocol("a broken row"))?;
    Ok(values
        .into_iter()
        .map(|value| value.map(|bytes| String::from_utf8_lossy(bytes).into_owned()))
        .collect())
}

/// What an ErrorResponse says.
pub fn refusal_of(body: &[u8]) -> Refusal {
    let heard = fields::Heard::of(body);
    Refusal {
        code: String::from_utf8_lossy(heard.sqlstate).into_owned(),
        message: heard.message_lossy().into_owned(),
    }
}

fn note_parameter(server: &mut Server, interner: &Interner, body: &[u8]) {
    let Some((name, value)) = fields::parameter_status(body) else {
        return;
    };
    let (name, value) = (
        String::from_utf8_lossy(name),
        String::from_utf8_lossy(value),
    );
    if is_carried(&name) {
        server.side.params = interner.with(&server.side.params, &name, &value);
    }
}

fn note_command(server: &mut Server, body: &[u8]) {
    let tag = fields::command_tag(body).unwrap_or_default();
    if matches!(tag, b"DISCARD ALL" | b"DEALLOCATE ALL") {
        server.side.held.clear_except(&[]);
    }
    if tag == b"DISCARD ALL" {
        server.side.params = Arc::clone(&server.side.base);
    }
}
