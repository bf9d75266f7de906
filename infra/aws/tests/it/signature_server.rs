//! An S3 server that checks every signature and every checksum, in this process: s3s over a folder.

use std::path::Path;

use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;
use s3s_fs::FileSystem;

use super::listener::listen;

/// Serves `root`, in which each folder is a bucket, as long as the process lives. Returns the address.
pub(crate) fn serve(root: &Path, key: &str, secret: &str) -> String {
    let mut service = S3ServiceBuilder::new(FileSystem::new(root).unwrap());
    service.set_auth(SimpleAuth::from_single(key, secret));
    listen(service.build())
}
