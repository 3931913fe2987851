use super::*;
use proptest::prelude::*;
use serde_json::Value as Json;
use std::sync::LazyLock;

mod random;
mod schemas;

use random::Random;

const SCHEMA: &str = r#"
syntax = "proto3";
package shop.v1;
import "google/protobuf/any.proto";
import "google/protobuf/duration.proto";
import "google/protobuf/empty.proto";
import "google/protobuf/field_mask.proto";
import "google/protobuf/struct.proto";
import "google/protobuf/timestamp.proto";
import "google/protobuf/wrappers.proto";

message Order {
  int64 id = 1;
  string customer_name = 2;
  repeated Item items = 3;
  map<string, int32> counts = 4;
  State state = 5;
  oneof paid_by {
    string card = 6;
    Cash cash = 7;
    int32 voucher = 8;
  }
  optional int32 discount = 9;
  bytes raw = 10;
  repeated sint32 deltas = 11;
  Order parent = 12;
  map<int64, Item> by_number = 13;
  map<bool, string> flags = 14;
  repeated string tags = 15;
  double weight = 16;
  float rate = 17;
  bool is_gift = 18 [json_name = "gift"];
  repeated State states = 19;
  repeated fixed64 marks = 20 [packed = false];
  message Cash { uint64 cents = 1; string currency = 2; }
  message Item { string sku = 1; uint32 quantity = 2; message Detail { bool is_heavy = 1; } Detail detail = 3; }
  message Known {
    google.protobuf.Timestamp at = 1;
    google.protobuf.Duration took = 2;
    google.protobuf.FieldMask mask = 3;
    google.protobuf.Struct data = 4;
    google.protobuf.Value value = 5;
    google.protobuf.ListValue list = 6;
    google.protobuf.Any any = 7;
    google.protobuf.Int64Value wide = 8;
    google.protobuf.StringValue text = 9;
    google.protobuf.BoolValue is_on = 10;
    google.protobuf.BytesValue blob = 11;
    google.protobuf.DoubleValue number = 12;
    google.protobuf.Empty empty = 13;
    google.protobuf.NullValue nothing = 14;
    repeated google.protobuf.Value values = 15;
    map<string, google.protobuf.Timestamp> times = 16;
  }
}
enum State {
  option allow_alias = true;
  STATE_UNKNOWN = 0;
  STATE_OPEN = 1;
  STATE_NEW = 1;
  STATE_LOST = -1;
}
message Scalars {
  double a = 1; float b = 2; int32 c = 3; int64 d = 4; uint32 e = 5; uint64 f = 6; sint32 g = 7; sint64 h = 8;
  fixed32 i = 9; fixed64 j = 10; sfixed32 k = 11; sfixed64 l = 12; bool m = 13; string n = 14; bytes o = 15;
}
"#;

fn parsed(text: &str) -> Schema {
    Schema::parse(text, &[]).unwrap()
}

fn shop() -> &'static Schema {
    static SHOP: LazyLock<Schema> = LazyLock::new(|| parsed(SCHEMA));
    &SHOP
}

/// The bytes and JSON of a message of a schema.
struct Of<'a>(&'a Schema, MessageId);

impl<'a> Of<'a> {
    fn named(schema: &'a Schema, name: &str) -> Self {
        Self(schema, schema.message(MessageChoice::Name(name)).unwrap())
    }

    fn shown_as(&self, names: FieldNames, bytes: &[u8]) -> Result<String, Undecodable> {
        let mut out = Vec::new();
        self.0.write_json(self.1, bytes, names, &mut out).map(|()| String::from_utf8(out).unwrap())
    }

    fn shown(&self, bytes: &[u8]) -> String {
        self.shown_as(FieldNames::Json, bytes).unwrap()
    }

    fn read(&self, json: &str) -> Result<Vec<u8>, Unfit> {
        let mut out = Vec::new();
        self.0.read_json(self.1, json, &mut out).map(|()| out)
    }

    fn both_ways(&self, bytes: &[u8], json: &str) {
        assert_eq!(self.shown(bytes), json);
        assert_eq!(self.read(json).unwrap(), bytes, "{json}");
    }

    fn unfit(&self, json: &str) -> String {
        self.read(json).unwrap_err().to_string()
    }

    fn undecodable(&self, bytes: &[u8]) -> String {
        self.shown_as(FieldNames::Json, bytes).unwrap_err().to_string()
    }
}

#[test]
fn a_message_is_shown_in_the_order_of_its_schema() {
    let schema = shop();
    let order = Of::named(schema, "Order");
    order.both_ways(b"", "{}");
    order.both_ways(b"\x08\x96\x01\x12\x03bob", r#"{"id":"150","customerName":"bob"}"#);
    order.both_ways(b"\x1a\x05\x0a\x01a\x10\x02\x1a\x00", r#"{"items":[{"sku":"a","quantity":2},{}]}"#);
    order.both_ways(b"\x22\x05\x0a\x01a\x10\x05\x28\x01", r#"{"counts":{"a":5},"state":"STATE_OPEN"}"#);
    order.both_ways(b"\x48\x00", r#"{"discount":0}"#);
    order.both_ways(b"\x5a\x03\x01\x02\x03", r#"{"deltas":[-1,1,-2]}"#);
    order.both_ways(b"\x28\x05", r#"{"state":5}"#);
    order.both_ways(b"\x28\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", r#"{"state":"STATE_LOST"}"#);
    order.both_ways(b"\x6a\x07\x08\x07\x12\x03\x0a\x01x", r#"{"byNumber":{"7":{"sku":"x"}}}"#);
    order.both_ways(b"\x72\x05\x08\x01\x12\x01y", r#"{"flags":{"true":"y"}}"#);
    order.both_ways(b"\x90\x01\x01\x9a\x01\x02\x01\x00", r#"{"gift":true,"states":["STATE_OPEN","STATE_UNKNOWN"]}"#);
    order.both_ways(b"\xa1\x01\x01\0\0\0\0\0\0\0\xa1\x01\x02\0\0\0\0\0\0\0", r#"{"marks":["1","2"]}"#);
    order.both_ways(b"\x62\x04\x62\x02\x08\x01", r#"{"parent":{"parent":{"id":"1"}}}"#);
    order.both_ways(b"\x32\x00", r#"{"card":""}"#);
    let names = order.shown_as(FieldNames::Proto, b"\x12\x01a\x90\x01\x01").unwrap();
    assert_eq!(names, r#"{"customer_name":"a","is_gift":true}"#);
    assert_eq!(order.read(&names).unwrap(), b"\x12\x01a\x90\x01\x01");
    // A length that takes more than one byte.
    let long = format!(r#"{{"items":[{{"sku":"{}"}}]}}"#, "x".repeat(300));
    assert_eq!(order.shown(&order.read(&long).unwrap()), long);
}

/// What parsers must accept, though nobody writes it so.
#[test]
fn fields_in_any_order_and_twice_are_shown_as_they_count() {
    let schema = shop();
    let order = Of::named(schema, "Order");
    assert_eq!(order.shown(b"\x12\x01b\x08\x01"), r#"{"id":"1","customerName":"b"}"#);
    assert_eq!(order.shown(b"\x08\x01\x08\x02"), r#"{"id":"2"}"#);
    // Messages are merged; elements are added, also with others in between; packed or not.
    assert_eq!(order.shown(b"\x62\x02\x08\x01\x62\x03\x12\x01a"), r#"{"parent":{"id":"1","customerName":"a"}}"#);
    assert_eq!(order.shown(b"\x7a\x01a\x08\x01\x7a\x01b"), r#"{"id":"1","tags":["a","b"]}"#);
    assert_eq!(order.shown(b"\x58\x02\x5a\x02\x04\x06\x58\x08"), r#"{"deltas":[1,2,3,4]}"#);
    assert_eq!(order.shown(b"\xa2\x01\x08\x01\0\0\0\0\0\0\0"), r#"{"marks":["1"]}"#);
    assert_eq!(order.shown(b"\x5a\x00"), r#"{"deltas":[]}"#);
    // Of a oneof the last one counts, with what was set of it since.
    assert_eq!(order.shown(b"\x32\x01a\x40\x07"), r#"{"voucher":7}"#);
    assert_eq!(order.shown(b"\x3a\x02\x08\x01\x32\x01a\x3a\x03\x12\x01b"), r#"{"cash":{"currency":"b"}}"#);
    // An entry of a map may lack both, and have them turned.
    assert_eq!(order.shown(b"\x22\x00\x22\x05\x10\x01\x0a\x01a"), r#"{"counts":{"":0,"a":1}}"#);
    // 32 bits of more.
    assert_eq!(order.shown(b"\x48\xff\xff\xff\xff\x0f"), r#"{"discount":-1}"#);
}

#[test]
fn fields_that_the_schema_does_not_have_stay_visible() {
    let schema = shop();
    let item = Of::named(schema, "Order.Item");
    let bytes =
        b"\x0a\x01a\xf8\x01\x05\xfa\x01\x02hi\xfd\x01\x01\0\0\0\xf9\x01\x01\0\0\0\0\0\0\0\xfb\x01\x08\x01\xfc\x01";
    let json = concat!(
        r#"{"sku":"a","@unknown":[{"number":31,"varint":"5"},{"number":31,"bytes":"aGk="},{"number":31,"fixed32":1},"#,
        r#"{"number":31,"fixed64":"1"},{"number":31,"group":"CAE="}]}"#
    );
    item.both_ways(bytes, json);
    // A known field with the wire type of another is not known.
    item.both_ways(b"\x08\x01", r#"{"@unknown":[{"number":1,"varint":"1"}]}"#);
    for json in [
        r#"{"@unknown":1}"#,
        r#"{"@unknown":[{}]}"#,
        r#"{"@unknown":[{"number":0,"varint":"1"}]}"#,
        r#"{"@unknown":[{"number":536870912,"varint":"1"}]}"#,
        r#"{"@unknown":[{"number":1}]}"#,
        r#"{"@unknown":[{"number":1,"varint":"1","bytes":""}]}"#,
        r#"{"@unknown":[{"number":1,"varint":"-1"}]}"#,
        r#"{"@unknown":[{"number":1,"group":"/w=="}]}"#,
    ] {
        assert!(item.unfit(json).starts_with(".\"@unknown\""), "{json}: {}", item.unfit(json));
    }
}

#[test]
fn scalars_have_the_forms_of_the_json_mapping() {
    let schema = shop();
    let scalars = Of::named(schema, "Scalars");
    let json = concat!(
        r#"{"a":-1.5,"b":0.1,"c":-1,"d":"-9223372036854775808","e":4294967295,"f":"18446744073709551615","g":-2147483648,"#,
        r#""h":"-9223372036854775808","i":4294967295,"j":"18446744073709551615","k":-1,"l":"-1","m":true,"n":"é\u0085","o":"/w=="}"#
    );
    assert_eq!(scalars.shown(&scalars.read(json).unwrap()), json);
    for (given, canonical) in [
        (r#"{"a":"NaN","b":"-Infinity"}"#, r#"{"a":"NaN","b":"-Infinity"}"#),
        (r#"{"a":"1.5","b":1e3}"#, r#"{"a":1.5,"b":1000.0}"#),
        (r#"{"a":-0.0}"#, r#"{"a":-0.0}"#),
        (r#"{"c":"5","d":9007199254740993,"e":1.0,"f":1e3}"#, r#"{"c":5,"d":"9007199254740993","e":1,"f":"1000"}"#),
        (r#"{"o":"-_8"}"#, r#"{"o":"+/8="}"#),
        (r#"{"a":0,"b":0.0,"c":0,"m":false,"n":"","o":""}"#, "{}"),
        (r#"{"a":null,"n":null}"#, "{}"),
    ] {
        assert_eq!(scalars.shown(&scalars.read(given).unwrap()), canonical);
    }
    for json in [
        r#"{"a":"x"}"#,
        r#"{"a":"inf"}"#,
        r#"{"a":"nan"}"#,
        r#"{"a":1e400}"#,
        r#"{"b":1e39}"#,
        r#"{"c":2147483648}"#,
        r#"{"c":1.5}"#,
        r#"{"d":9223372036854775808}"#,
        r#"{"e":-1}"#,
        r#"{"m":"true"}"#,
        r#"{"n":1}"#,
        r#"{"o":"?"}"#,
        r#"{"c":true}"#,
        r#"{"n":"\ud800"}"#,
    ] {
        let unfit = scalars.unfit(json);
        assert!(unfit.contains(": expected "), "{json}: {unfit}");
    }
}

#[test]
fn well_known_types_have_their_own_forms() {
    let schema = shop();
    let known = Of::named(schema, "Order.Known");
    for (bytes, json) in [
        (&b"\x0a\x00"[..], r#"{"at":"1970-01-01T00:00:00Z"}"#),
        (b"\x0a\x06\x08\x01\x10\xc0\x84\x3d", r#"{"at":"1970-01-01T00:00:01.001Z"}"#),
        (b"\x0a\x02\x10\x01", r#"{"at":"1970-01-01T00:00:00.000000001Z"}"#),
        (b"\x12\x00", r#"{"took":"0s"}"#),
        (b"\x12\x04\x10\xd0\x86\x03", r#"{"took":"0.000050s"}"#),
        (b"\x1a\x0b\x0a\x04a_bc\x0a\x03d.e", r#"{"mask":"aBc,d.e"}"#),
        (b"\x1a\x00", r#"{"mask":""}"#),
        (b"\x22\x00", r#"{"data":{}}"#),
        (b"\x2a\x02\x08\x00", r#"{"value":null}"#),
        (b"\x2a\x03\x1a\x01a", r#"{"value":"a"}"#),
        (b"\x2a\x09\x11\0\0\0\0\0\0\xf8\x3f", r#"{"value":1.5}"#),
        (b"\x32\x04\x0a\x02\x20\x01", r#"{"list":[true]}"#),
        (b"\x42\x02\x08\x05", r#"{"wide":"5"}"#),
        (
            b"\x42\x00\x4a\x00\x52\x00\x5a\x00\x62\x00\x6a\x00",
            r#"{"wide":"0","text":"","isOn":false,"blob":"","number":0.0,"empty":{}}"#,
        ),
        (b"\x7a\x02\x08\x00\x7a\x02\x20\x00", r#"{"values":[null,false]}"#),
        (b"\x82\x01\x05\x0a\x01a\x12\x00", r#"{"times":{"a":"1970-01-01T00:00:00Z"}}"#),
    ] {
        known.both_ways(bytes, json);
    }
    let any = r#"{"any":{"@type":"type.googleapis.com/shop.v1.Order.Item","sku":"a"}}"#;
    assert_eq!(known.shown(&known.read(any).unwrap()), any);
    let any = r#"{"any":{"@type":"x/google.protobuf.Duration","value":"-1.500s"}}"#;
    assert_eq!(known.shown(&known.read(any).unwrap()), any);
    let any = r#"{"any":{"@type":"x/google.protobuf.Any","value":{"@type":"x/google.protobuf.Empty"}}}"#;
    assert_eq!(known.shown(&known.read(any).unwrap()), any);
    let deep = r#"{"data":{"a":[1.0,{"b":null},"x"],"c":{}}}"#;
    assert_eq!(known.shown(&known.read(deep).unwrap()), deep);
    // What has no form of its own is shown as an object, and read back from it.
    for (bytes, json) in [
        (&b"\x0a\x0b\x10\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"[..], r#"{"at":{"nanos":-1}}"#),
        (b"\x12\x0d\x08\x01\x10\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", r#"{"took":{"seconds":"1","nanos":-1}}"#),
        (b"\x1a\x03\x0a\x01A", r#"{"mask":{"paths":["A"]}}"#),
        (b"\x3a\x04\x0a\x02x/", r#"{"any":{"typeUrl":"x/"}}"#),
        (b"\x42\x02\x10\x01", r#"{"wide":{"@unknown":[{"number":2,"varint":"1"}]}}"#),
    ] {
        known.both_ways(bytes, json);
    }
    assert_eq!(known.shown(b"\x3a\x07\x0a\x03x/y\x12\x00"), r#"{"any":{"typeUrl":"x/y","value":""}}"#);
    assert!(known.undecodable(b"\x2a\x09\x11\0\0\0\0\0\0\xf8\x7f").contains("not a finite number"));
    for (json, why) in [
        (r#"{"at":"1970-01-01"}"#, ".at: expected a timestamp such as"),
        (r#"{"took":"1"}"#, ".took: expected a duration such as 1.5s"),
        (r#"{"took":"1.s"}"#, ".took: expected a duration such as 1.5s"),
        (r#"{"data":[]}"#, ".data: expected an object"),
        (r#"{"any":{"@type":"x/no.Such"}}"#, ".any.\"@type\": the schema has no message no.Such"),
        (r#"{"any":{"@type":"x/google.protobuf.Duration"}}"#, ".any.value: missing"),
        (r#"{"values":[null,{"a":1},{"b":"\ud800"}]}"#, ".values[2]"),
        (r#"{"wide":"x"}"#, "expected an integer of 64 bits"),
    ] {
        assert!(known.unfit(json).contains(why), "{json}: {}", known.unfit(json));
    }
}

#[test]
fn proto2_has_groups_extensions_and_required_fields() {
    let schema = parsed(
        r#"syntax = "proto2";
        message M {
          required int32 id = 1;
          optional group Part = 2 { optional string name = 1; }
          repeated int32 loose = 3;
          repeated int32 tight = 4 [packed = true];
          optional int32 zero = 5 [default = 7];
          extensions 100 to 200;
        }
        extend M { optional string note = 100; repeated M more = 101; }"#,
    );
    let m = Of::named(&schema, "M");
    m.both_ways(b"\x08\x00\x13\x0a\x01a\x14\x28\x00", r#"{"id":0,"part":{"name":"a"},"zero":0}"#);
    m.both_ways(b"\x08\x01\x18\x01\x18\x02\x22\x02\x01\x02", r#"{"id":1,"loose":[1,2],"tight":[1,2]}"#);
    m.both_ways(b"\x08\x01\xa2\x06\x01x\xaa\x06\x02\x08\x02", r#"{"id":1,"[note]":"x","[more]":[{"id":2}]}"#);
    assert_eq!(m.unfit("{}"), ".id: missing (message M requires it)");
    assert!(m.undecodable(b"\x13\x0a\x01a\x1c").contains("a group ends as another"));
}

#[test]
fn what_does_not_fit_is_refused_with_its_field() {
    let schema = shop();
    let order = Of::named(schema, "Order");
    for (json, why) in [
        ("[]", "expected an object (message shop.v1.Order), found []"),
        ("{", "not JSON"),
        (r#"{"idd":1}"#, ".idd: message shop.v1.Order has no such field; did you mean id?"),
        (r#"{"id":1,"id":2}"#, ".id: the field is there twice"),
        (r#"{"customerName":"a","customer_name":"b"}"#, ".customer_name: the field is there twice"),
        (r#"{"card":"a","voucher":1}"#, ".voucher: another field of its oneof is set too"),
        (r#"{"items":[{"sku":1}]}"#, ".items[0].sku: expected a string, found 1"),
        (r#"{"items":[null]}"#, ".items[0]: expected an object"),
        (r#"{"items":{}}"#, ".items: expected an array, found {}"),
        (r#"{"counts":{"a":"b"}}"#, ".counts.a: expected an integer of 32 bits, found \"b\""),
        (r#"{"byNumber":{"x":{}}}"#, ".by_number.x: expected a number as a key"),
        (r#"{"flags":{"1":""}}"#, ".flags.1: expected true or false as a key"),
        (r#"{"state":"STATE"}"#, ".state: expected a name or number of enum shop.v1.State, found \"STATE\""),
        (r#"{"deltas":[1,"x"]}"#, ".deltas[1]: expected an integer of 32 bits"),
    ] {
        assert!(order.unfit(json).contains(why), "{json}: {}", order.unfit(json));
    }
    for (bytes, why) in [
        (&b"\x08"[..], "the bytes end within a number"),
        (b"\x12\x05a", "the bytes end within a value"),
        (b"\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "the bytes end within a value"),
        (b"\x12\x01\xff", ".customer_name: a string is not UTF-8"),
        (b"\x1a\x03\x0a\x01\xff", ".items[0].sku: a string is not UTF-8"),
        (b"\x00", "a field's number is out of range"),
        (b"\x0f", "a wire type that does not exist"),
        (b"\x0c", "a group ends that did not begin"),
        (b"\x5a\x01\x80", ".deltas: the bytes end within a packed number"),
        (b"\x22\x02\x18\x01", ".counts: an entry of a map has field 3"),
    ] {
        assert!(order.undecodable(bytes).contains(why), "{bytes:?}: {}", order.undecodable(bytes));
    }
}

#[test]
fn hostile_bytes_take_neither_memory_nor_time() {
    let schema = shop();
    let order = Of::named(schema, "Order");
    // Orders in orders, of which each has its fields out of order.
    let mut deep = Vec::new();
    for _ in 0..1_000 {
        let mut outer = vec![0x62];
        wire::write_varint(&mut outer, deep.len() as u64);
        outer.extend_from_slice(&deep);
        outer.extend_from_slice(b"\x08\x01");
        deep = outer;
    }
    assert!(order.undecodable(&deep).contains("nested deeper than 128 levels"));
    assert!(order.undecodable(&[0x1b; 100_000]).contains("groups are nested too deeply"));
    let json = format!("{}{}", r#"{"parent":"#.repeat(1_000), "}".repeat(1_000)).replace(":}", ":{}}");
    assert!(order.unfit(&json).contains("nested deeper than 128 levels"));
    let value = Of::named(schema, "Order.Known");
    let lists = format!(r#"{{"value":{}{}}}"#, "[".repeat(1_000), "]".repeat(1_000));
    assert!(value.unfit(&lists).contains("nested deeper than 128 levels"));
    // A name that is very long, for a value of a byte.
    let name = "N".repeat(60_000);
    let schema = parsed(&format!("syntax = \"proto3\"; enum E {{ {name} = 0; }} message M {{ repeated E e = 1; }}"));
    let mut bytes = vec![0x0a];
    wire::write_varint(&mut bytes, 20_000);
    bytes.resize(bytes.len() + 20_000, 0);
    assert!(Of::named(&schema, "M").undecodable(&bytes).contains("far more JSON"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Random messages: the JSON is what prost-reflect writes, and is read back to the same message and bytes.
    #[test]
    fn random_messages_are_read_as_prost_reflect_reads_them(seed: u64) {
        let schema = shop();
        let mut random = Random::new(seed);
        for name in ["Order", "Scalars", "Order.Known"] {
            let of = Of::named(schema, name);
            let descriptor = schema.file.parent_pool().get_message_by_name(schema.full_name(of.1).unwrap()).unwrap();
            let message = random.message(&descriptor, 3);
            let bytes = prost_reflect::prost::Message::encode_to_vec(&message);
            let json = of.shown(&bytes);
            let expected = serde_json::to_string(&message).unwrap();
            prop_assert_eq!(random::numbers(serde_json::from_str(&json).unwrap()), random::numbers(serde_json::from_str(&expected).unwrap()), "{}", json);
            let read = of.read(&json).unwrap();
            let decoded = |bytes: &[u8]| prost_reflect::DynamicMessage::decode(descriptor.clone(), bytes).unwrap();
            prop_assert!(json.contains("NaN") || decoded(&read) == decoded(&bytes), "{}", json);
            prop_assert_eq!(of.shown(&read), json);
            let names = of.shown_as(FieldNames::Proto, &bytes).unwrap();
            prop_assert_eq!(of.read(&names).unwrap(), read);
            // Its fields in another order mean the same.
            let shuffled = random.shuffled(&bytes);
            let expected = serde_json::to_string(&decoded(&shuffled)).unwrap();
            let shown: Json = serde_json::from_str(&of.shown(&shuffled)).unwrap();
            prop_assert_eq!(random::numbers(shown), random::numbers(serde_json::from_str(&expected).unwrap()));
        }
    }

    /// Any bytes are refused, or are a message that is read back: nothing panics.
    #[test]
    fn any_bytes_do_no_harm(seed: u64, damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4), bytes: Vec<u8>) {
        let schema = shop();
        let mut random = Random::new(seed);
        for name in ["Order", "Scalars", "Order.Known"] {
            let of = Of::named(schema, name);
            let descriptor = schema.file.parent_pool().get_message_by_name(schema.full_name(of.1).unwrap()).unwrap();
            let mut damaged = prost_reflect::prost::Message::encode_to_vec(&random.message(&descriptor, 2));
            for (index, byte) in &damage {
                if !damaged.is_empty() {
                    let index = index.index(damaged.len());
                    damaged[index] = *byte;
                }
            }
            for bytes in [&bytes, &damaged] {
                if let Ok(json) = of.shown_as(FieldNames::Json, bytes) {
                    serde_json::from_str::<Json>(&json).unwrap();
                    if let Ok(read) = of.read(&json) {
                        of.shown(&read);
                    }
                }
            }
        }
    }
}
