//! Messages as bytes: what their fields are by the descriptors, values over a bound, and calls that send them.

use std::collections::{BTreeMap, BTreeSet};

use goat_core::model::{ServiceId, TaskId};
use goat_proto::v1::{Constraint, ImageInfo, Mount, Port, ServiceChange, ServiceSpec, TaskOrigin, TaskReport};
use http::uri::PathAndQuery;
use prost::Message as _;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, FieldDescriptorProto, FileDescriptorSet};
use tokio_stream::StreamExt as _;
use tonic::Status;
use tonic::client::Grpc;
use tonic::codec::{BufferSettings, Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::transport::Channel;

use super::table::Bound;

const PACKAGE: &str = ".goat.v1.";

/// A spec that is accepted.
pub fn spec() -> ServiceSpec {
    ServiceSpec {
        name: "web".into(),
        driver: "process".into(),
        command: vec!["sleep".into()],
        replicas: 0,
        ..ServiceSpec::default()
    }
}

/// The compiled messages, by name.
pub struct Schema {
    messages: BTreeMap<String, DescriptorProto>,
    /// Service, call, input.
    calls: Vec<(String, String)>,
}

fn short(name: &str) -> &str {
    name.strip_prefix(PACKAGE).unwrap_or(name)
}

fn is_repeated(field: &FieldDescriptorProto) -> bool {
    field.label() == Label::Repeated
}

fn grows(field: &FieldDescriptorProto) -> bool {
    is_repeated(field) || matches!(field.r#type(), Type::String | Type::Bytes)
}

impl Schema {
    pub fn read() -> Self {
        let files = FileDescriptorSet::decode(goat_proto::DESCRIPTORS).expect("the build wrote it").file;
        let files: Vec<_> = files.into_iter().filter(|file| file.package() == "goat.v1").collect();
        let services = files.iter().flat_map(|file| &file.service);
        let call = |service: &prost_types::ServiceDescriptorProto| {
            let inputs = service.method.iter().map(|method| short(method.input_type()).to_owned());
            inputs.map(|input| (service.name().to_owned(), input)).collect::<Vec<_>>()
        };
        let calls = services.flat_map(call).collect();
        let messages = files.into_iter().flat_map(|file| file.message_type);
        Self { calls, messages: messages.map(|message| (message.name().to_owned(), message)).collect() }
    }

    /// Texts, lists and maps of all messages, as `Message.field`.
    pub fn growing_fields(&self) -> BTreeSet<String> {
        let of = |message: &DescriptorProto| {
            let fields = message.field.iter().filter(|field| grows(field));
            fields.map(|field| format!("{}.{}", message.name(), field.name())).collect::<Vec<_>>()
        };
        self.messages.values().flat_map(of).collect()
    }

    /// The messages that services take, with all that is in them.
    pub fn inputs(&self, is_meant: impl Fn(&str) -> bool) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        let mut left: Vec<String> =
            self.calls.iter().filter(|(service, _)| is_meant(service)).map(|(_, input)| input.clone()).collect();
        while let Some(name) = left.pop() {
            let Some(message) = self.messages.get(&name) else { continue };
            if found.insert(name) {
                left.extend(message.field.iter().map(|field| short(field.type_name()).to_owned()));
            }
        }
        found
    }

    /// Those of the messages that calls take whole.
    pub fn roots<'a>(&'a self, of: &'a BTreeSet<String>) -> impl Iterator<Item = &'a str> {
        let is_root = |name: &&String| self.calls.iter().any(|(_, input)| input == *name);
        of.iter().filter(is_root).map(String::as_str)
    }

    /// For each text, list and map within a message: its name, and bytes to add to the message that put it over its bound.
    pub fn over(&self, message: &str, bounds: &BTreeMap<&str, Bound>) -> Vec<(String, Vec<u8>)> {
        let mut found = Vec::new();
        for field in &self.messages[message].field {
            let name = format!("{message}.{}", field.name());
            let inner = short(field.type_name());
            let is_map = is_repeated(field) && inner.ends_with("Entry");
            if grows(field) {
                let bound = bounds.get(name.as_str()).unwrap_or_else(|| panic!("{name} has no bound"));
                if let Some(limit) = bound.refused_over() {
                    found.push((name, oversized(field, is_map, *bound, limit)));
                }
            }
            if self.messages.contains_key(inner) {
                for (name, bytes) in self.over(inner, bounds) {
                    let base = if is_repeated(field) { element(inner) } else { Vec::new() };
                    found.push((name, delimited(field.number(), &[base, bytes].concat())));
                }
            }
        }
        found
    }
}

fn oversized(field: &FieldDescriptorProto, is_map: bool, bound: Bound, limit: usize) -> Vec<u8> {
    let number = field.number();
    let is_counted = matches!(bound, Bound::AtMost(_));
    if is_map {
        let entry = |key: String, value: &[u8]| {
            delimited(number, &[delimited(1, key.as_bytes()), delimited(2, value)].concat())
        };
        return if is_counted {
            (0..=limit).flat_map(|key| entry(format!("k{key}"), b"")).collect()
        } else {
            entry("key".into(), &vec![b'a'; limit + 1])
        };
    }
    match field.r#type() {
        Type::String | Type::Bytes if !(is_repeated(field) && is_counted) => delimited(number, &vec![b'a'; limit + 1]),
        Type::String | Type::Bytes => (0..=limit).flat_map(|_| delimited(number, b"a")).collect(),
        _ => {
            let one = delimited(number, &element(short(field.type_name())));
            let count = if is_counted { limit + 1 } else { limit / one.len() + 1 };
            one.repeat(count)
        }
    }
}

/// An element of a list that is sound but for what is added to it.
fn element(message: &str) -> Vec<u8> {
    let (task, service) = (TaskId::from_random(1).to_string(), ServiceId::from_random(1).to_string());
    match message {
        "TaskReport" => {
            TaskReport { task_id: task, state: "running".into(), at_ms: 1, ..TaskReport::default() }.encode_to_vec()
        }
        "TaskOrigin" => TaskOrigin { task_id: task, service_id: service, ..TaskOrigin::default() }.encode_to_vec(),
        "ServiceChange" => ServiceChange { id: service, seen_version: 0, spec: Some(spec()) }.encode_to_vec(),
        "Port" => Port { host_port: 80, container_port: 80, protocol: String::new() }.encode_to_vec(),
        "Mount" => Mount { source: "data".into(), target: "/data".into(), read_only: true }.encode_to_vec(),
        "Constraint" => Constraint { label: "a".into(), equal: true, value: "b".into() }.encode_to_vec(),
        "ImageInfo" => ImageInfo { reference: "a:1".into(), size_bytes: 1 }.encode_to_vec(),
        other => panic!("no sound {other} is known"),
    }
}

fn varint(mut value: usize, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// A length-delimited field.
pub fn delimited(number: i32, value: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    varint((number as usize) << 3 | 2, &mut out);
    varint(value.len(), &mut out);
    out.extend_from_slice(value);
    out
}

/// Messages that are bytes already.
#[derive(Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Vec<u8>;
    type Decode = ();
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        bytes::BufMut::put_slice(to, &item);
        Ok(())
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::default()
    }
}

impl Decoder for Raw {
    type Item = ();
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<()>, Status> {
        let left = bytes::Buf::remaining(from);
        bytes::Buf::advance(from, left);
        Ok(Some(()))
    }
}

async fn client(address: &str) -> Grpc<Channel> {
    let channel = Channel::from_shared(format!("http://{address}")).expect("an address").connect().await;
    let mut client = Grpc::new(channel.expect("it runs"));
    client.ready().await.expect("it answers");
    client
}

fn path(call: &str) -> PathAndQuery {
    format!("/goat.v1.{call}").parse().expect("a path")
}

/// Sends one message; the first answer or the refusal.
pub async fn call(address: &str, call: &str, message: Vec<u8>) -> Result<(), Status> {
    let request = tonic::Request::new(tokio_stream::once(message));
    let answers = client(address).await.streaming(request, path(call), Raw).await?;
    answers.into_inner().message().await.map(|_| ())
}

/// Opens a session and sends these messages; the status that it ends with.
pub async fn open(address: &str, messages: Vec<Vec<u8>>) -> Result<(), Status> {
    // The worker does not end it.
    let messages = tokio_stream::iter(messages).chain(tokio_stream::pending());
    let request = tonic::Request::new(messages);
    let mut answers = client(address).await.streaming(request, path("Dispatcher/Session"), Raw).await?.into_inner();
    while answers.message().await?.is_some() {}
    Ok(())
}
