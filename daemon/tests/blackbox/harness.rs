//! The harness itself: a test that cannot fail proves nothing, so the servers and pictures it leans on are looked at here.

use crate::common::{SOON, broker::Broker, bucket::Bucket, client::Client, eventually, eyes, live, raw};

#[test]
fn the_s3_server_refuses_who_has_no_signature_and_comes_back_with_its_objects() {
    let mut bucket = Bucket::start();
    let object = bucket.folder().join("root/eyes/a.txt");
    std::fs::write(&object, "kept").unwrap();
    let base = format!("http://127.0.0.1:{}", bucket.port);
    let ask = || {
        let client = Client::new(&base, None);
        client.try_send(client.request(reqwest::Method::GET, &format!("{base}/eyes/a.txt"))).map(|a| a.status)
    };
    assert_eq!(ask().unwrap(), 403);
    bucket.stop();
    assert!(ask().is_err(), "nobody listens");
    bucket.restart();
    assert_eq!(ask().unwrap(), 403);
    assert_eq!(bucket.keys(), ["a.txt"]);
    assert_eq!(bucket.object("a.txt").unwrap(), b"kept");
}

#[test]
fn a_collector_hears_everything_over_a_restart_of_the_broker() {
    let mut broker = Broker::start();
    let collector = broker.collect(&["irisd/#"]);
    let say = |broker: &Broker, seq: u32| broker.publish("irisd/box-1/job/event", &format!("{{\"seq\": {seq}}}"));
    say(&broker, 1);
    broker.stop();
    broker.restart();
    say(&broker, 2); // the collector may not be back yet: its session is
    eventually("both are heard", SOON, || (collector.events().len() == 2).then_some(()));
    assert!(broker.retained("irisd/box-1/job/event").is_none());
}

#[test]
fn hand_made_pictures_are_what_they_say() {
    let plain = eyes::plain(1, 96, 72);
    assert_ne!(plain, eyes::plain(2, 96, 72));
    assert_eq!(eyes::pixels(&plain).dimensions(), (96, 72));
    let turned = eyes::with_exif(&plain, 6, "a name");
    let exif = exif::Reader::new().read_from_container(&mut std::io::Cursor::new(&turned)).expect("EXIF");
    let field = |tag| exif.get_field(tag, exif::In::PRIMARY).map(|f| f.display_value().to_string());
    assert_eq!(exif.get_field(exif::Tag::Orientation, exif::In::PRIMARY).unwrap().value.get_uint(0), Some(6));
    assert!(field(exif::Tag::ImageDescription).unwrap().contains("a name"));
    assert_eq!(eyes::pixels(&turned).into_raw(), eyes::pixels(&plain).into_raw());
    let info = |bytes: &[u8]| png::Decoder::new(std::io::Cursor::new(bytes.to_vec())).read_info().map(|r| r.info().clone());
    assert_eq!(info(&eyes::as_16_bit_png(&plain)).unwrap().bit_depth, png::BitDepth::Sixteen);
    let claimed = eyes::png_that_claims(60_000, 60_000);
    assert_eq!(claimed[16..24], [0, 0, 0xEA, 0x60, 0, 0, 0xEA, 0x60]);
    let cmyk = eyes::as_cmyk_jpeg(&plain);
    assert!(cmyk.windows(2).any(|w| w == [0xFF, 0xC0] || w == [0xFF, 0xC2]), "a frame header");
    let frame = cmyk.windows(2).position(|w| w == [0xFF, 0xC0] || w == [0xFF, 0xC2]).unwrap();
    assert_eq!(cmyk[frame + 9], 4, "four components");
    assert_eq!(live::STEPS.len(), 5);
}

#[test]
fn the_reader_of_server_sent_events_understands_ids_names_comments_and_long_data() {
    let feed = live::Feed::default();
    let text = ": hello\nretry: 2000\n\nid: 7\nevent: started\ndata: {\"event\":\"started\",\ndata: \"job_id\":\"a\"}\n\n\
                event: progress\ndata: {\"job_id\":\"a\",\"current_step\":\"load\",\"progress\":3}\n\n: keep-alive\n\nid: 8\nevent: reset\ndata: {}\n\n";
    live::read_sse(text.as_bytes(), &feed);
    let all = feed.all();
    assert_eq!(
        all.iter().map(|e| (e.id, e.name.as_str())).collect::<Vec<_>>(),
        [(Some(7), "started"), (None, "progress"), (Some(8), "reset")]
    );
    assert_eq!(feed.kinds("a"), ["started"]);
    assert_eq!(feed.steps("a"), [("load".to_owned(), 3)]);
}

#[test]
fn an_answer_by_hand_is_read_to_its_end_and_no_further() {
    use std::io::Write as _;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let server = std::thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        socket.write_all(b"HTTP/1.1 413 Too Large\r\ncontent-length: 2\r\n\r\n{}").unwrap();
        socket // kept open: the reader must not wait for its end
    });
    let answer = raw::read_answer(&mut raw::connect(&base), SOON);
    assert_eq!(answer, Some((413, "{}".to_owned())));
    drop(server.join());
}
