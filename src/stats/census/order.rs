//! What a client may be told from outside.

/// What a client must do next, said from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Order {
    /// Go on.
    None,
    /// Go over to the process that takes over, as soon as nothing is under way.
    MoveOn,
    /// End as soon as the server that it holds, and that must be replaced, is outside a transaction (`server_fast_close`).
    FastClose,
    /// End at the next idle point (shutdown).
    Drain,
    /// End: `client_idle_timeout`.
    IdleTimeout,
    /// End: `query_timeout`.
    QueryTimeout,
    /// End: `query_wait_timeout`.
    WaitTimeout,
    /// End: `idle_transaction_timeout`.
    IdleTransaction,
    /// End: `transaction_timeout`.
    TransactionTimeout,
    /// End: `pin_timeout`.
    PinTimeout,
    /// End: `suspend_timeout`.
    SuspendTimeout,
    /// End: the servers of its database are being replaced, and it would keep its own.
    ServersReplaced,
    /// End: the database is gone.
    DatabaseRemoved,
    /// End: `KILL_CLIENT`.
    Kill,
    /// End: the process goes down now.
    Shutdown,
}

impl Order {
    /// Whether it says that some time is over: it may come too late to be true.
    pub fn is_timeout(self) -> bool {
        (Self::IdleTimeout..=Self::PinTimeout).contains(&self)
    }
}

pub(super) const ORDERS: [Order; 15] = [
    Order::None,
    Order::MoveOn,
    Order::FastClose,
    Order::Drain,
    Order::IdleTimeout,
    Order::QueryTimeout,
    Order::WaitTimeout,
    Order::IdleTransaction,
    Order::TransactionTimeout,
    Order::PinTimeout,
    Order::SuspendTimeout,
    Order::ServersReplaced,
    Order::DatabaseRemoved,
    Order::Kill,
    Order::Shutdown,
];
