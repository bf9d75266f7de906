//! The identity of an S3 service: within one service, buckets of the same name are the same bucket.

use std::fmt;

use aws_config::SdkConfig;
use aws_types::service_config::ServiceConfigKey;
use mill_model::{AddressError, ServiceAddress};

/// An S3 service.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum S3Service {
    /// Amazon S3, at any of its addresses. Within a partition no two buckets share a name.
    Amazon {
        /// The partition, such as `aws`.
        partition: &'static str,
    },
    /// Another service, at its address.
    Other(ServiceAddress),
}

impl S3Service {
    /// The service at an address, or Amazon's where there is none.
    ///
    /// # Errors
    /// The text is not a valid address.
    pub fn at(endpoint: Option<&str>, region: Option<&str>) -> Result<Self, AddressError> {
        let Some(endpoint) = endpoint else {
            return Ok(Self::Amazon { partition: partition_of(region.unwrap_or_default()) });
        };
        let address = ServiceAddress::parse(endpoint)?;
        Ok(amazon_partition(address.host()).map_or(Self::Other(address), |partition| Self::Amazon { partition }))
    }
}

impl fmt::Display for S3Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Amazon { partition } => write!(f, "amazon:{partition}"),
            Self::Other(address) => address.fmt(f),
        }
    }
}

/// The partition of a region. Source: AWS general reference, *Partitions*.
fn partition_of(region: &str) -> &'static str {
    [("cn-", "aws-cn"), ("us-gov-", "aws-us-gov"), ("eusc-", "aws-eusc")]
        .into_iter()
        .find_map(|(begin, partition)| region.starts_with(begin).then_some(partition))
        .unwrap_or("aws")
}

/// The partition, if the host belongs to Amazon S3: regional, dual-stack, accelerated, FIPS, or a VPC endpoint. Source: AWS
/// general reference, *Amazon S3 endpoints and quotas*.
fn amazon_partition(host: &str) -> Option<&'static str> {
    const SUFFIXES: [(&str, &str); 4] = [
        (".amazonaws.com.cn", "aws-cn"),
        (".amazonaws.eu", "aws-eusc"),
        (".amazonaws.com", "aws"),
        (".api.aws", "aws"),
    ];
    let (begin, partition) =
        SUFFIXES.into_iter().find_map(|(suffix, partition)| Some((host.strip_suffix(suffix)?, partition)))?;
    let labels = begin.split('.');
    let s3 = labels.clone().any(|label| label == "s3" || label.starts_with("s3-"));
    let partition = match partition {
        "aws" => labels
            .map(|label| label.strip_prefix("s3-").unwrap_or(label))
            .map(partition_of)
            .find(|found| *found != "aws"),
        _ => Some(partition),
    };
    s3.then_some(partition.unwrap_or("aws"))
}

/// The address of a service, by the SDK's own rules: the caller's, else the one that the environment or the profile sets for
/// this service, else the one they set for all services.
pub(crate) fn endpoint(config: &SdkConfig, service: &str) -> Option<String> {
    let of_all = config.endpoint_url().map(str::to_owned);
    if config.get_origin("endpoint_url").is_client_config() {
        return of_all;
    }
    let key = ServiceConfigKey::builder().service_id(service).env("AWS_ENDPOINT_URL").profile("endpoint_url").build();
    let of_service = config.service_config().and_then(|services| services.load_config(key.ok()?));
    of_service.or(of_all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(endpoint: Option<&str>, region: &str) -> String {
        S3Service::at(endpoint, Some(region)).unwrap().to_string()
    }

    #[test]
    fn every_address_of_amazons_s3_is_the_one_service_of_its_partition() {
        for (partition, region, addresses) in [
            (
                "amazon:aws",
                "eu-central-1",
                &[
                    "https://s3.eu-central-1.amazonaws.com",
                    "https://S3.amazonaws.com/",
                    "http://s3-eu-west-1.amazonaws.com",
                    "https://s3.dualstack.us-east-1.amazonaws.com:443",
                    "https://s3-accelerate.amazonaws.com",
                    "https://s3-fips.us-east-1.amazonaws.com",
                    "https://bucket.vpce-1a2b-3c.s3.us-east-1.vpce.amazonaws.com",
                    "https://s3.eu-central-1.api.aws",
                ][..],
            ),
            ("amazon:aws-cn", "cn-north-1", &["https://s3.cn-north-1.amazonaws.com.cn"]),
            (
                "amazon:aws-us-gov",
                "us-gov-west-1",
                &["https://s3.us-gov-west-1.amazonaws.com", "https://s3-us-gov-west-1.amazonaws.com"],
            ),
        ] {
            assert_eq!(named(None, region), partition);
            for address in addresses {
                assert_eq!(named(Some(address), "us-east-1"), partition, "{address}");
            }
        }
    }

    #[test]
    fn other_hosts_are_services_of_their_own() {
        for (address, name) in [
            ("https://s3.example.org", "s3.example.org"),
            ("https://s3.amazonaws.com.example.org", "s3.amazonaws.com.example.org"),
            ("https://abc.execute-api.eu-central-1.amazonaws.com", "abc.execute-api.eu-central-1.amazonaws.com"),
            ("http://[::1]:9000/", "localhost:9000"),
        ] {
            assert_eq!(named(Some(address), "us-east-1"), name);
        }
    }
}
