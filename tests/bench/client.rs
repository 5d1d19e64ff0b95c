//! The load: connections that send pipelines of requests and read replies of known length, with as little
//! work of their own as possible. And a small client for single requests.

use std::io::{Read, Write};
use std::net::TcpStream;

/// Encodes a request.
pub fn encode(out: &mut Vec<u8>, words: &[&[u8]]) {
    write!(out, "*{}\r\n", words.len()).expect("vectors take all");
    for word in words {
        write!(out, "${}\r\n", word.len()).expect("vectors take all");
        out.extend_from_slice(word);
        out.extend_from_slice(b"\r\n");
    }
}

/// One connection for single requests.
pub struct Client {
    stream: TcpStream,
    buf: Vec<u8>,
}

impl Client {
    /// Connects.
    pub fn connect(port: u16) -> Client {
        let stream = TcpStream::connect(("127.0.0.1", port)).expect("the server accepts");
        stream.set_nodelay(true).expect("a TCP option");
        Client { stream, buf: Vec::new() }
    }

    /// Sends requests and waits for so many replies, which must not be errors.
    pub fn send_all(&mut self, requests: &[u8], mut replies: usize) {
        self.stream.write_all(requests).expect("the server reads");
        let mut chunk = [0; 65536];
        while replies > 0 {
            while let Some(end) = reply_end(&self.buf, 0) {
                assert!(self.buf[0] != b'-', "{}", String::from_utf8_lossy(&self.buf[..end]));
                self.buf.drain(..end);
                replies -= 1;
            }
            if replies > 0 {
                let n = self.stream.read(&mut chunk).expect("the server answers");
                assert!(n > 0, "the server closed the connection");
                self.buf.extend_from_slice(&chunk[..n]);
            }
        }
    }

    /// Sends one request given as words and returns the whole reply as text.
    pub fn ask(&mut self, words: &[&[u8]]) -> String {
        let mut request = Vec::new();
        encode(&mut request, words);
        self.stream.write_all(&request).expect("the server reads");
        loop {
            if let Some(end) = reply_end(&self.buf, 0) {
                let reply: Vec<u8> = self.buf.drain(..end).collect();
                return String::from_utf8_lossy(&reply).into_owned();
            }
            let mut chunk = [0; 65536];
            let n = self.stream.read(&mut chunk).expect("the server answers");
            assert!(n > 0, "the server closed the connection");
            self.buf.extend_from_slice(&chunk[..n]);
        }
    }

    /// One request of words separated by blanks.
    pub fn line(&mut self, line: &str) -> String {
        let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        self.ask(&words)
    }

    /// A number field of INFO.
    pub fn info(&mut self, section: &str, field: &str) -> f64 {
        let text = self.line(&format!("INFO {section}"));
        let found = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        found.and_then(|value| value.trim().parse().ok()).unwrap_or(f64::NAN)
    }
}

/// Where the reply at `at` ends, if it is complete.
fn reply_end(buf: &[u8], at: usize) -> Option<usize> {
    let line_end = at + buf.get(at..)?.windows(2).position(|w| w == b"\r\n")?;
    let number = || std::str::from_utf8(&buf[at + 1..line_end]).ok()?.parse::<i64>().ok();
    let next = line_end + 2;
    match buf[at] {
        b'$' | b'=' => match number()? {
            -1 => Some(next),
            n => Some(next + n as usize + 2).filter(|end| *end <= buf.len()),
        },
        b'*' | b'~' | b'>' => (0..number()?.max(0)).try_fold(next, |at, _| reply_end(buf, at)),
        b'%' => (0..2 * number()?).try_fold(next, |at, _| reply_end(buf, at)),
        _ => Some(next),
    }
}

/// Many connections that send pipelines in turn.
pub struct Fleet {
    streams: Vec<TcpStream>,
    request: Vec<u8>,
    chunk: Vec<u8>,
}

impl Fleet {
    /// Connects `n` times.
    pub fn connect(port: u16, n: usize) -> Fleet {
        let connect = |_| {
            let stream = TcpStream::connect(("127.0.0.1", port)).expect("the server accepts");
            stream.set_nodelay(true).expect("a TCP option");
            stream
        };
        Fleet { streams: (0..n).map(connect).collect(), request: Vec::new(), chunk: vec![0; 1 << 20] }
    }

    /// Each connection sends `pipeline` requests made by `make` and then reads their replies, `reply` bytes
    /// each. Returns the number of requests.
    pub fn round(&mut self, pipeline: usize, reply: usize, make: &mut dyn FnMut(&mut Vec<u8>)) -> usize {
        for stream in &mut self.streams {
            self.request.clear();
            (0..pipeline).for_each(|_| make(&mut self.request));
            stream.write_all(&self.request).expect("the server reads");
        }
        for stream in &mut self.streams {
            let mut left = pipeline * reply;
            while left > 0 {
                let max = left.min(self.chunk.len());
                let n = stream.read(&mut self.chunk[..max]).expect("the server answers");
                assert!(n > 0, "the server closed the connection");
                assert!(
                    self.chunk[0] != b'-' || left < pipeline * reply,
                    "an error reply: {}",
                    show(&self.chunk[..n])
                );
                left -= n;
            }
        }
        self.streams.len() * pipeline
    }
}

impl Fleet {
    /// Reads so many bytes from each connection, and expects them to be there soon: what is pushed.
    pub fn read(&mut self, bytes: usize) {
        for stream in &mut self.streams {
            let mut left = bytes;
            while left > 0 {
                let max = left.min(self.chunk.len());
                let n = stream.read(&mut self.chunk[..max]).expect("the server pushes");
                assert!(n > 0, "the server closed the connection");
                left -= n;
            }
        }
    }
}

fn show(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(200)]).into_owned()
}
