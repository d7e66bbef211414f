//! Downloads from a server on this machine that does what servers do wrong.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use flate2::{Compression, write::GzEncoder};
use md5::{Digest, Md5};
use residua::data::{Download, DownloadObserver, Downloadable, Patience, Remote, fetch};
use tempfile::TempDir;

const PATIENCE: Patience =
    Patience { stall: Duration::from_millis(400), retries: 2, pause: Duration::from_millis(5) };

/// A request as the server saw it.
#[derive(Clone, Debug, PartialEq)]
struct Request {
    path: String,
    range: Option<String>,
}

/// Answers each connection by `answer`, which is given the number of the request.
struct Server {
    address: String,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Server {
    fn start(answer: impl Fn(usize, &Request, &mut TcpStream) + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = requests.clone();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut request = Request { path: String::new(), range: None };
                for line in BufReader::new(stream.try_clone().unwrap()).lines() {
                    let line = line.unwrap_or_default();
                    if line.is_empty() {
                        break;
                    }
                    if let Some(path) = line.strip_prefix("GET ") {
                        request.path = path.split(' ').next().unwrap().to_owned();
                    }
                    if let Some((name, value)) = line.split_once(':')
                        && name.eq_ignore_ascii_case("range")
                    {
                        request.range = Some(value.trim().to_owned());
                    }
                }
                let number = {
                    let mut seen = seen.lock().unwrap();
                    seen.push(request.clone());
                    seen.len() - 1
                };
                answer(number, &request, &mut stream);
            }
        });
        Self { address, requests }
    }

    fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }
}

fn head(stream: &mut TcpStream, status: &str, headers: &str) {
    write!(stream, "HTTP/1.1 {status}\r\nConnection: close\r\n{headers}\r\n").unwrap();
}

/// Sends `content`, or what was asked for of it, but no more than `most` bytes of the body.
fn send(request: &Request, stream: &mut TcpStream, content: &[u8], most: usize) {
    let start = request.range.as_ref().map(|range| {
        range.strip_prefix("bytes=").unwrap().strip_suffix('-').unwrap().parse::<usize>().unwrap()
    });
    let rest = &content[start.unwrap_or(0).min(content.len())..];
    let length = format!("Content-Length: {}\r\n", rest.len());
    match start {
        None => head(stream, "200 OK", &length),
        Some(start) if start >= content.len() => {
            return head(stream, "416 Range Not Satisfiable", "Content-Length: 0\r\n");
        }
        Some(start) => {
            let (last, of) = (content.len() - 1, content.len());
            head(
                stream,
                "206 Partial Content",
                &format!("{length}Content-Range: bytes {start}-{last}/{of}\r\n"),
            );
        }
    }
    // The client may have gone, as it should where it is patient no longer.
    let _ = stream.write_all(&rest[..rest.len().min(most)]);
}

fn content() -> Vec<u8> {
    (0..300_000u32).map(|k| ((k * k) >> 7) as u8).collect()
}

fn md5(bytes: &[u8]) -> String {
    format!("{:x}", Md5::digest(bytes))
}

struct Place(TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn fetch(&self, server: &Server) -> Result<(), String> {
        let remote = Remote { url: format!("{}/file", server.address), md5: md5(&content()) };
        fetch(&remote, &self.0.path().join("file"), PATIENCE, &mut ()).map_err(|error| error.to_string())
    }

    fn assert_whole(&self) {
        assert!(fs::read(self.0.path().join("file")).unwrap() == content());
        assert_eq!(fs::read_dir(self.0.path()).unwrap().count(), 1);
    }

    fn part(&self) -> usize {
        fs::metadata(self.0.path().join("file.part")).map_or(0, |part| part.len() as usize)
    }
}

#[test]
fn a_file_is_fetched_and_watched() {
    #[derive(Default)]
    struct Watcher(Vec<(u64, Option<u64>)>);
    impl DownloadObserver for Watcher {
        fn advanced(&mut self, bytes: u64, of: Option<u64>) {
            self.0.push((bytes, of));
        }
    }
    let server = Server::start(|_, request, stream| send(request, stream, &content(), usize::MAX));
    let (place, mut watcher) = (Place::new(), Watcher::default());
    let remote = Remote { url: format!("{}/file", server.address), md5: md5(&content()) };
    fetch(&remote, &place.0.path().join("file"), PATIENCE, &mut watcher).unwrap();
    place.assert_whole();
    assert_eq!(watcher.0.first(), Some(&(0, Some(300_000))));
    assert_eq!(watcher.0.last(), Some(&(300_000, Some(300_000))));
    assert!(watcher.0.is_sorted());
}

#[test]
fn a_broken_connection_is_gone_on_with_where_it_broke() {
    // Each answer breaks off after 70,000 bytes: five requests, each for the rest only.
    let server = Server::start(|_, request, stream| send(request, stream, &content(), 70_000));
    let place = Place::new();
    place.fetch(&server).unwrap();
    place.assert_whole();
    let ranges: Vec<_> = server.requests().into_iter().map(|request| request.range).collect();
    let expected = [70_000, 140_000, 210_000, 280_000].map(|start| Some(format!("bytes={start}-")));
    assert!(ranges[0].is_none() && ranges[1..] == expected, "{ranges:?}");
}

#[test]
fn the_next_call_goes_on_where_the_last_one_stopped() {
    let silent = Server::start(|number, request, stream| {
        if number == 0 {
            send(request, stream, &content(), 100_000);
        }
    });
    let place = Place::new();
    let message = place.fetch(&silent).unwrap_err();
    assert!(message.contains("100000 bytes are there, run the same command again"), "{message}");
    assert_eq!(place.part(), 100_000);
    let server = Server::start(|_, request, stream| send(request, stream, &content(), usize::MAX));
    place.fetch(&server).unwrap();
    place.assert_whole();
    assert_eq!(server.requests()[0].range.as_deref(), Some("bytes=100000-"));
}

#[test]
fn a_server_that_cannot_go_on_starts_over() {
    let server = Server::start(|_, request, stream| {
        let whole = Request { range: None, ..request.clone() };
        send(&whole, stream, &content(), usize::MAX);
    });
    let place = Place::new();
    fs::write(place.0.path().join("file.part"), &content()[..5000]).unwrap();
    place.fetch(&server).unwrap();
    place.assert_whole();
}

#[test]
fn a_part_of_another_file_is_thrown_away() {
    for part in [vec![9; 5000], vec![9; 300_000], vec![9; 400_000]] {
        let server = Server::start(|_, request, stream| send(request, stream, &content(), usize::MAX));
        let place = Place::new();
        fs::write(place.0.path().join("file.part"), part).unwrap();
        place.fetch(&server).unwrap();
        place.assert_whole();
    }
}

#[test]
fn another_content_is_refused_and_deleted() {
    let server = Server::start(|_, request, stream| send(request, stream, b"something else", usize::MAX));
    let place = Place::new();
    let message = place.fetch(&server).unwrap_err();
    assert!(
        message.contains("is not the file that it should be") && message.contains("another mirror"),
        "{message}"
    );
    assert_eq!(fs::read_dir(place.0.path()).unwrap().count(), 0);
}

#[test]
fn redirects_are_followed_but_not_for_ever() {
    let server = Server::start(|_, request, stream| match request.path.as_str() {
        "/file" => head(stream, "302 Found", "Location: /moved\r\nContent-Length: 0\r\n"),
        _ => send(request, stream, &content(), usize::MAX),
    });
    let place = Place::new();
    place.fetch(&server).unwrap();
    place.assert_whole();
    let endless =
        Server::start(|_, _, stream| head(stream, "302 Found", "Location: /file\r\nContent-Length: 0\r\n"));
    let message = Place::new().fetch(&endless).unwrap_err();
    assert!(message.contains("redirects without end"), "{message}");
}

#[test]
fn what_the_server_does_not_have_is_asked_for_once() {
    for (status, part) in
        [("404 Not Found", "404 (it is not there)"), ("403 Forbidden", "403 (access denied)")]
    {
        let server = Server::start(move |_, _, stream| head(stream, status, "Content-Length: 0\r\n"));
        let message = Place::new().fetch(&server).unwrap_err();
        assert!(message.contains(part) && message.contains("the address of a mirror"), "{message}");
        assert_eq!(server.requests().len(), 1);
    }
    let server = Server::start(|number, request, stream| match number {
        0 => head(stream, "503 Service Unavailable", "Content-Length: 0\r\n"),
        _ => send(request, stream, &content(), usize::MAX),
    });
    let place = Place::new();
    place.fetch(&server).unwrap();
    place.assert_whole();
}

#[test]
fn a_silent_connection_is_given_up() {
    let server = Server::start(|number, request, stream| {
        send(request, stream, &content(), if number == 0 { 50_000 } else { 0 });
        let stream = stream.try_clone().unwrap();
        // It stays open, and silent.
        thread::spawn(move || {
            thread::sleep(Duration::from_secs(20));
            drop(stream);
        });
    });
    let place = Place::new();
    let message = place.fetch(&server).unwrap_err();
    assert!(
        message.contains("nothing arrived for 0.4 s") && message.contains("50000 bytes are there"),
        "{message}"
    );
}

#[test]
fn nobody_there_and_bad_addresses_are_told() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let place = Place::new();
    let message = |url: &str| {
        let remote = Remote { url: url.into(), md5: String::new() };
        fetch(&remote, &place.0.path().join("file"), PATIENCE, &mut ()).unwrap_err().to_string()
    };
    assert!(message(&address).contains("0 bytes are there"), "{}", message(&address));
    assert!(message("no address").contains("give another address"), "{}", message("no address"));
    let busy = fs::File::create(place.0.path().join("file.part")).unwrap();
    busy.lock().unwrap();
    assert!(message(&address).contains("another process is downloading"), "{}", message(&address));
}

/// A tiny CIFAR-10 as its archive.
fn tiny_archive() -> Vec<u8> {
    let mut builder = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    for name in ["data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "test_batch"]
    {
        let mut header = tar::Header::new_gnu();
        header.set_size(3073);
        header.set_mode(0o644);
        header.set_cksum();
        builder.append_data(&mut header, format!("cifar-10-batches-bin/{name}.bin"), &[4; 3073][..]).unwrap();
    }
    builder.into_inner().unwrap().finish().unwrap()
}

#[test]
fn a_data_set_is_fetched_unpacked_and_found_again() {
    let archive = tiny_archive();
    let served = archive.clone();
    let server = Server::start(move |_, request, stream| send(request, stream, &served, usize::MAX));
    let remote = Remote { url: format!("{}/cifar", server.address), md5: md5(&archive) };
    let place = tempfile::tempdir().unwrap();
    let to = place.path().join("new/data");
    let download = |keeps| {
        Downloadable::Cifar10
            .download(&remote, &to, keeps, PATIENCE, &mut ())
            .map_err(|error| error.to_string())
    };
    assert_eq!(download(false), Ok(Download::Done));
    assert_eq!(residua::data::cifar10(&to, residua::data::Split::Train).unwrap().len(), 5);
    assert_eq!(fs::read_dir(&to).unwrap().count(), 1);
    assert_eq!((download(false), server.requests().len()), (Ok(Download::WasThere), 1));

    // Killed while unpacking: what it left is no data set, and the archive need not come again.
    fs::rename(to.join("cifar-10-batches-bin"), to.join(".tmp-cifar-10-batches-bin")).unwrap();
    fs::write(to.join("cifar-10-batches-bin.tar.gz"), &archive).unwrap();
    assert_eq!((download(true), server.requests().len()), (Ok(Download::Done), 1));
    assert!(
        to.join("cifar-10-batches-bin.tar.gz").exists() && !to.join(".tmp-cifar-10-batches-bin").exists()
    );

    fs::write(to.join("cifar-10-batches-bin/test_batch.bin"), b"short").unwrap();
    let message = download(false).unwrap_err();
    assert!(message.contains("test_batch.bin") && message.contains("move it away"), "{message}");
}
