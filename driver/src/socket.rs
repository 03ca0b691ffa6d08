//! Private unix sockets: only their owner may connect, and only what is ours is ever removed.
