//! The console.

use std::sync::Arc;

use tokio::sync::mpsc::UnboundedSender;

use crate::admin::order::Order;
use crate::clients::login::Guest;
use crate::pools::registry::Registry;

/// Serves one guest.
pub async fn serve(_guest: Guest, _registry: Arc<Registry>, _orders: UnboundedSender<Order>) {}

/// Logs.
pub async fn log_stats(_registry: Arc<Registry>) {}

/// Pauses or resumes everything.
pub fn pause_all(_registry: &Registry, _pause: bool) {}
