//! What is sent: messages put together by hand.

/// Messages put together before they are sent, in one write.
#[derive(Clone, Default)]
pub struct Batch(pub Vec<u8>);

/// An empty batch.
pub fn batch() -> Batch {
    Batch::default()
}

fn text(body: &mut Vec<u8>, text: &str) {
    body.extend_from_slice(text.as_bytes());
    body.push(0);
}

fn count(length: usize) -> [u8; 2] {
    i16::try_from(length)
        .expect("few enough for a test")
        .to_be_bytes()
}

pub(super) fn size(length: usize) -> [u8; 4] {
    i32::try_from(length)
        .expect("small enough for a frame")
        .to_be_bytes()
}

impl Batch {
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    /// Any tag with any body.
    pub fn frame(mut self, tag: u8, body: &[u8]) -> Self {
        self.0.push(tag);
        self.0.extend_from_slice(&size(body.len() + 4));
        self.0.extend_from_slice(body);
        self
    }

    pub fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    pub fn query(self, sql: &str) -> Self {
        let mut body = Vec::new();
        text(&mut body, sql);
        self.frame(b'Q', &body)
    }

    pub fn parse(self, name: &str, sql: &str) -> Self {
        let mut body = Vec::new();
        text(&mut body, name);
        text(&mut body, sql);
        body.extend_from_slice(&count(0));
        self.frame(b'P', &body)
    }

    /// Binds the unnamed portal, values and results as text.
    pub fn bind(self, statement: &str, values: &[&str]) -> Self {
        self.bind_portal("", statement, values)
    }

    pub fn bind_portal(self, portal: &str, statement: &str, values: &[&str]) -> Self {
        let mut body = Vec::new();
        text(&mut body, portal);
        text(&mut body, statement);
        body.extend_from_slice(&count(0));
        body.extend_from_slice(&count(values.len()));
        for value in values {
            body.extend_from_slice(&size(value.len()));
            body.extend_from_slice(value.as_bytes());
        }
        body.extend_from_slice(&count(0));
        self.frame(b'B', &body)
    }

    fn kind_and_name(self, tag: u8, kind: u8, name: &str) -> Self {
        let mut body = vec![kind];
        text(&mut body, name);
        self.frame(tag, &body)
    }

    pub fn describe_statement(self, name: &str) -> Self {
        self.kind_and_name(b'D', b'S', name)
    }

    pub fn describe_portal(self, name: &str) -> Self {
        self.kind_and_name(b'D', b'P', name)
    }

    pub fn close_statement(self, name: &str) -> Self {
        self.kind_and_name(b'C', b'S', name)
    }

    pub fn close_portal(self, name: &str) -> Self {
        self.kind_and_name(b'C', b'P', name)
    }

    /// Executes the unnamed portal to its end.
    pub fn execute(self) -> Self {
        self.execute_portal("", 0)
    }

    pub fn execute_portal(self, portal: &str, max_rows: i32) -> Self {
        let mut body = Vec::new();
        text(&mut body, portal);
        body.extend_from_slice(&max_rows.to_be_bytes());
        self.frame(b'E', &body)
    }

    /// Bind, Execute of the unnamed portal.
    pub fn run(self, statement: &str, values: &[&str]) -> Self {
        self.bind(statement, values).execute()
    }

    pub fn sync(self) -> Self {
        self.frame(b'S', b"")
    }

    pub fn flush(self) -> Self {
        self.frame(b'H', b"")
    }

    pub fn copy_data(self, bytes: &[u8]) -> Self {
        self.frame(b'd', bytes)
    }

    pub fn copy_done(self) -> Self {
        self.frame(b'c', b"")
    }

    pub fn copy_fail(self, why: &str) -> Self {
        let mut body = Vec::new();
        text(&mut body, why);
        self.frame(b'f', &body)
    }

    /// A call of a function by its OID, with text arguments and a text result.
    pub fn function_call(self, oid: i32, arguments: &[&str]) -> Self {
        let mut body = oid.to_be_bytes().to_vec();
        body.extend_from_slice(&count(0));
        body.extend_from_slice(&count(arguments.len()));
        for argument in arguments {
            body.extend_from_slice(&size(argument.len()));
            body.extend_from_slice(argument.as_bytes());
        }
        body.extend_from_slice(&count(0));
        self.frame(b'F', &body)
    }

    pub fn terminate(self) -> Self {
        self.frame(b'X', b"")
    }
}

/// A startup packet: length, version, names and values.
pub fn startup_packet(version: i32, parameters: &[(&str, &str)]) -> Vec<u8> {
    let mut body = version.to_be_bytes().to_vec();
    for (name, value) in parameters {
        text(&mut body, name);
        text(&mut body, value);
    }
    body.push(0);
    [&size(body.len() + 4)[..], &body].concat()
}

/// SSLRequest, GSSENCRequest: a startup packet that is a number.
pub fn request_packet(code: i32) -> Vec<u8> {
    [size(8), code.to_be_bytes()].concat()
}
