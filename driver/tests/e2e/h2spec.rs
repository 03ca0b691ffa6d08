//! What h2spec, somebody else's tests of HTTP/2, says of the sockets.

use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::thread;

use crate::support::call::Call;
use crate::support::clock::seconds;
use crate::support::scene::Scene;
use crate::support::splice::splice;
use crate::support::tools::program;

/// Its cases 5.1/8 and 5.1/9 end a call and go on sending on it at once. They count it as a fault when they see the answer to
/// the call, which may have left before anything said that nobody wants it.
const RACES: &str = "after sending RST_STREAM frame";

#[test]
fn h2spec_finds_no_fault_but_answers_that_were_on_their_way() {
    let scene = Scene::local();
    let builder = scene.create("here", "--driver local --bootstrap");
    let port = forwarded(builder.socket());
    // A unary method without a message: h2spec's own requests have none either.
    let spec = Call::new(program("h2spec"))
        .words("--strict --timeout 5 --max-header-length 60000 --path /moby.buildkit.v1.Control/Info --host 127.0.0.1 --port")
        .arg(port.to_string());
    let outcome = spec.within(seconds(180)).end();
    let text = &outcome.stdout;
    let faults: Vec<&str> = text.lines().filter_map(|line| line.trim().strip_prefix("× ")).collect();
    assert!(faults.iter().all(|fault| fault.ends_with(RACES)), "{text}");
    let verdict = format!("146 tests, {} passed, 0 skipped, {} failed", 146 - faults.len(), faults.len());
    assert!(text.contains(&verdict), "{text}");
    builder.remove();
}

/// A port on loopback that leads to a socket; h2spec knows TCP alone. It ends with the test's process.
fn forwarded(socket: PathBuf) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("a port of our own").port();
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            if let Ok(server) = UnixStream::connect(&socket) {
                splice(client, server);
            }
        }
    });
    port
}
