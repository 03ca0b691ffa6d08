//! The way to the API server, which a test may cut or fill with silence.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mood {
    Passing,
    /// Connections stand, and nothing arrives.
    Silent,
    /// Connections are broken, and new ones refused.
    Gone,
}

/// Passes TCP connections on to one address.
#[derive(Debug)]
pub(crate) struct Relay {
    address: SocketAddr,
    state: Arc<State>,
    listening: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct State {
    to: SocketAddr,
    mood: Mutex<Mood>,
    changed: Condvar,
    connections: Mutex<Vec<TcpStream>>,
}

impl State {
    fn mood(&self) -> MutexGuard<'_, Mood> {
        self.mood.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Moves bytes one way until an end closes. While there is silence, what was read is kept, as a network would lose it.
    fn carry(&self, mut from: TcpStream, mut to: TcpStream) {
        let mut buffer = [0; 64 << 10];
        while let Ok(read @ 1..) = from.read(&mut buffer) {
            let mut mood = self.mood();
            while *mood == Mood::Silent {
                mood = self.changed.wait(mood).unwrap_or_else(PoisonError::into_inner);
            }
            let gone = *mood == Mood::Gone;
            drop(mood);
            if gone || to.write_all(&buffer[..read]).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Write);
    }
}

impl Relay {
    pub(crate) fn to(to: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.set_nonblocking(true).expect("a socket of our own");
        let address = listener.local_addr().expect("an address");
        let state = Arc::new(State {
            to,
            mood: Mutex::new(Mood::Passing),
            changed: Condvar::new(),
            connections: Mutex::default(),
        });
        let listening = std::thread::spawn({
            let state = Arc::clone(&state);
            move || listen(&listener, &state)
        });
        Self { address, state, listening: Some(listening) }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on nothing arrives on either side, and nobody is told.
    pub(crate) fn fall_silent(&self) {
        *self.state.mood() = Mood::Silent;
    }

    /// As if the process at the other end were killed.
    pub(crate) fn be_gone(&mut self) {
        *self.state.mood() = Mood::Gone;
        self.state.changed.notify_all();
        if let Some(listening) = self.listening.take() {
            listening.join().expect("the listener does not panic");
        }
        for connection in self.state.connections.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            let _ = connection.shutdown(Shutdown::Both);
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.be_gone();
    }
}

fn listen(listener: &TcpListener, state: &Arc<State>) {
    while *state.mood() != Mood::Gone {
        let Ok((near, _)) = listener.accept() else {
            std::thread::sleep(Duration::from_millis(2));
            continue;
        };
        let Ok(far) = TcpStream::connect(state.to) else { continue };
        for stream in [&near, &far] {
            stream.set_nonblocking(false).and_then(|()| stream.set_nodelay(true)).expect("a socket of our own");
        }
        let clone = |stream: &TcpStream| stream.try_clone().expect("a socket of our own");
        let mut connections = state.connections.lock().unwrap_or_else(PoisonError::into_inner);
        connections.extend([clone(&near), clone(&far)]);
        for (from, to) in [(clone(&near), clone(&far)), (far, near)] {
            let state = Arc::clone(state);
            std::thread::spawn(move || state.carry(from, to));
        }
    }
}
