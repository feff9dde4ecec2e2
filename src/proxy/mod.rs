pub(crate) mod canonical;
pub(crate) mod client_address;
pub(crate) mod client_body;
pub(crate) mod conn;
pub(crate) mod route;
pub(crate) mod serve;
pub(crate) mod settings;
pub(crate) mod tls;
