//! Headers of an object must be text. Some clients write other bytes (ISO-8859-1), and some services keep them; the SDK ends in
//! a panic where it meets such an `Expires`.

use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::context::BeforeDeserializationInterceptorContextRef;
use aws_smithy_runtime_api::client::interceptors::{Intercept, dyn_dispatch_hint};
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::config_bag::ConfigBag;
use mill_model::ids::shorten_for_display;

use super::properties::is_property;

/// A header of a response that is no text. It is one of the object's, so it concerns one item.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the header `{name}` is not text in UTF-8")]
pub(crate) struct UnreadableHeader {
    name: String,
}

/// An interceptor that rejects a response with such a header before the SDK reads its headers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ReadableHeaders;

#[dyn_dispatch_hint]
impl Intercept for ReadableHeaders {
    fn name(&self) -> &'static str {
        "mill-readable-headers"
    }

    fn read_after_transmit(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let response = context.response();
        let mut headers = response.headers().iter_bytes().filter(|(name, _)| is_property(name));
        match headers.find(|(_, value)| response.status().is_success() && std::str::from_utf8(value).is_err()) {
            Some((name, _)) => Err(UnreadableHeader { name: shorten_for_display(name) }.into()),
            None => Ok(()),
        }
    }
}
