//! What the tasks of an etcd registry share.

use tokio::sync::watch;

use crate::connection::Connector;
use crate::etcd_config::EtcdConfig;
use crate::lease::Lease;
use crate::shared_view::SharedView;
use crate::store_history::StoreHistory;
use crate::unreadable_warnings::UnreadableWarnings;
use systir_assignment::StoreKeys;

pub(crate) struct Shared {
    pub config: EtcdConfig,
    pub connector: Connector,
    pub keys: StoreKeys,
    pub view: SharedView,
    pub history: StoreHistory,
    pub unreadable: UnreadableWarnings,
    pub lease: watch::Sender<Option<Lease>>,
}
