"""Cloud Storage: buckets and objects through google-cloud-storage, and through obstore's XML API."""

import base64
import hashlib
import io

import google_crc32c
import obstore
import pytest
import requests
from google.api_core import exceptions
from obstore.store import GCSStore

from conftest import REAL_PROJECT, unique

AWKWARD = ["a b/ü.txt", "dir//twice", "100% sure+plain?&#.txt", "quo\"te'<>", "back\\slash", "x" * 300 + "/y"]


def crc32c(content):
    return base64.b64encode(google_crc32c.value(content).to_bytes(4, "big")).decode()


@pytest.fixture(scope="module")
def store(bucket, storage_url):
    """The same bucket, as object_store sees it."""
    if REAL_PROJECT:
        return GCSStore(bucket.name)
    account = f'{{"gcs_base_url":"{storage_url}","disable_oauth":true,"client_email":"","private_key":"",' \
        '"private_key_id":""}'
    return GCSStore(bucket.name, service_account_key=account, client_options={"allow_http": True})


def test_a_bucket_is_made_changed_listed_and_deleted(storage):
    name = unique("contract").replace("_", "-")
    assert storage.lookup_bucket(name) is None
    made = storage.create_bucket(name)
    with pytest.raises(exceptions.Conflict):
        storage.create_bucket(name)
    made.labels = {"team": "a", "old": "b"}
    made.patch()
    made.labels = {"team": "c"}
    made.patch()
    assert storage.get_bucket(name).labels == {"team": "c"}
    assert storage.get_bucket(name).storage_class == "STANDARD"
    assert name in [b.name for b in storage.list_buckets(prefix=name)]
    made.blob("dir/x").upload_from_string("x")
    with pytest.raises(exceptions.Conflict):
        made.delete()
    made.delete(force=True)
    with pytest.raises(exceptions.NotFound):
        storage.get_bucket(name)
    with pytest.raises(exceptions.NotFound):
        list(storage.list_blobs(name))
    with pytest.raises(exceptions.NotFound):
        storage.bucket(name).blob("x").upload_from_string("x")


@pytest.mark.parametrize("name", ["Upper", "ab", "-a-b", "a..b"])
def test_what_is_no_name_of_a_bucket_is_refused(storage, name):
    with pytest.raises((exceptions.BadRequest, ValueError)):
        storage.create_bucket(name)


def test_an_object_comes_back_with_what_was_said_of_it(bucket):
    content = bytes(range(256)) * 100
    blob = bucket.blob("dir/said.bin")
    blob.metadata = {"made-by": "test", "Größe": "ä"}
    blob.cache_control = "no-store"
    blob.upload_from_string(content, content_type="application/x-test")
    found = bucket.get_blob("dir/said.bin")
    assert (found.size, found.content_type, found.cache_control) == (25600, "application/x-test", "no-store")
    assert found.metadata == {"made-by": "test", "Größe": "ä"}
    assert found.md5_hash == base64.b64encode(hashlib.md5(content).digest()).decode()
    assert found.crc32c == crc32c(content)
    assert (found.metageneration, found.storage_class) == (1, "STANDARD")
    # The client compares what it reads with the checksums that the server sends.
    for checksum in ["md5", "crc32c"]:
        assert found.download_as_bytes(checksum=checksum) == content
    assert found.download_as_bytes(start=10, end=19) == content[10:20]
    assert found.download_as_bytes(start=-5, raw_download=True, checksum=None) == content[-5:]
    with pytest.raises(exceptions.RequestRangeNotSatisfiable):
        found.download_as_bytes(start=25600)


@pytest.mark.parametrize("name", AWKWARD)
def test_any_name_is_a_name(bucket, store, name):
    bucket.blob(name).upload_from_string(name)
    assert bucket.blob(name).download_as_text() == name
    assert [b.name for b in bucket.list_blobs(prefix=name)] == [name]
    if "//" not in name:
        # object_store's paths have no empty segments.
        assert bytes(obstore.get(store, name).bytes()) == name.encode()
    bucket.delete_blob(name)
    assert bucket.get_blob(name) is None


def test_a_name_that_is_a_folder_too(bucket):
    for name in ["both", "both/inner", "both/inner/most", "both/"]:
        bucket.blob(name).upload_from_string(name)
    assert [b.name for b in bucket.list_blobs(prefix="both")] == ["both", "both/", "both/inner", "both/inner/most"]
    bucket.blob("both").upload_from_string("again")
    assert bucket.blob("both").download_as_text() == "again"
    assert bucket.blob("both/").download_as_text() == "both/"
    for name in ["both", "both/inner"]:
        bucket.delete_blob(name)
    assert [b.name for b in bucket.list_blobs(prefix="both")] == ["both/", "both/inner/most"]


def test_conditions_are_kept(bucket):
    blob = bucket.blob("conditions")
    blob.upload_from_string("1", if_generation_match=0)
    with pytest.raises(exceptions.PreconditionFailed):
        bucket.blob("conditions").upload_from_string("2", if_generation_match=0)
    first = blob.generation
    blob.upload_from_string("2", if_generation_match=first)
    assert blob.generation > first
    with pytest.raises(exceptions.PreconditionFailed):
        blob.upload_from_string("3", if_generation_match=first)
    with pytest.raises(exceptions.PreconditionFailed):
        bucket.delete_blob("conditions", if_generation_match=first)
    blob.metadata = {"a": "b"}
    blob.patch(if_metageneration_match=1)
    assert blob.metageneration == 2
    with pytest.raises(exceptions.PreconditionFailed):
        blob.patch(if_metageneration_match=1)
    with pytest.raises(exceptions.NotFound):
        bucket.blob("conditions", generation=first).reload()
    assert blob.download_as_text(if_generation_match=blob.generation) == "2"
    bucket.delete_blob("conditions", if_generation_match=blob.generation)
    with pytest.raises(exceptions.NotFound):
        bucket.delete_blob("conditions")


def test_metadata_is_patched_by_member_and_updated_whole(bucket):
    blob = bucket.blob("patched")
    blob.metadata = {"a": "1", "b": "2"}
    blob.upload_from_string("x", content_type="text/plain")
    blob.metadata = {"a": None, "c": "3"}
    blob.patch()
    assert bucket.get_blob("patched").metadata == {"b": "2", "c": "3"}
    blob.content_type = "text/csv"
    blob.patch()
    found = bucket.get_blob("patched")
    assert (found.content_type, found.metageneration) == ("text/csv", 3)
    assert found.generation == blob.generation


@pytest.mark.parametrize("size", [0, 1, 262144, 1000000])
def test_a_resumable_upload_arrives_in_chunks(bucket, size):
    content = bytes(i * 7 % 251 for i in range(size))
    blob = bucket.blob(f"resumable{size}", chunk_size=262144)
    blob.upload_from_file(io.BytesIO(content), content_type="text/plain", checksum="crc32c")
    assert bucket.get_blob(blob.name).crc32c == crc32c(content)
    assert blob.download_as_bytes() == content


def test_a_resumable_upload_goes_on_where_it_broke_off(bucket, storage, storage_url):
    blob = bucket.blob("broken-off")
    url = blob.create_resumable_upload_session(content_type="text/plain")
    session = storage._http
    chunk = b"a" * 262144

    def put(body, content_range):
        return session.put(url, data=body, headers={"Content-Range": content_range}, allow_redirects=False)

    assert put(b"", "bytes */*").status_code == 308
    answer = put(chunk, "bytes 0-262143/*")
    assert (answer.status_code, answer.headers["Range"]) == (308, "bytes=0-262143")
    assert bucket.get_blob(blob.name) is None
    # The answer was lost: the client asks, and sends only what is missing.
    assert put(b"", "bytes */*").headers["Range"] == "bytes=0-262143"
    answer = put(b"end", "bytes 262144-262146/262147")
    assert (answer.status_code, answer.json()["size"]) == (200, "262147")
    assert put(b"", "bytes */262147").status_code == 200
    assert blob.download_as_bytes() == chunk + b"end"


def test_wrong_checksums_are_refused(bucket):
    blob = bucket.blob("wrong")
    with pytest.raises(exceptions.BadRequest):
        blob.upload_from_file(io.BytesIO(b"content"), crc32c_checksum_value="AAAAAA==", checksum=None)
    assert bucket.get_blob("wrong") is None


def test_lists_have_pages_folders_and_bounds(bucket):
    names = ["l/a", "l/b/1", "l/b/2", "l/c", "l/d/1", "l/e"]
    for name in names:
        bucket.blob(name).upload_from_string("")
    assert [b.name for b in bucket.list_blobs(prefix="l/")] == names
    assert [b.name for b in bucket.list_blobs(prefix="l/", start_offset="l/b/2", end_offset="l/e")] == names[2:5]
    assert [b.name for b in bucket.list_blobs(prefix="l/", max_results=2)] == names[:2]
    for size in [1, 2, 3, 10]:
        listed = bucket.list_blobs(prefix="l/", delimiter="/", page_size=size)
        assert [b.name for b in listed] == ["l/a", "l/c", "l/e"]
        assert listed.prefixes == {"l/b/", "l/d/"}


def test_objects_are_copied_rewritten_and_composed(bucket):
    source = bucket.blob("from")
    source.metadata = {"k": "v"}
    source.upload_from_string("one", content_type="text/plain")
    copied = bucket.copy_blob(source, bucket, "copied", if_generation_match=0)
    assert (copied.metadata, copied.md5_hash) == ({"k": "v"}, source.md5_hash)
    with pytest.raises(exceptions.PreconditionFailed):
        bucket.copy_blob(source, bucket, "copied", if_generation_match=0)
    with pytest.raises(exceptions.NotFound):
        bucket.copy_blob(bucket.blob("nobody"), bucket, "copied")
    rewritten = bucket.blob("rewritten")
    assert rewritten.rewrite(source) == (None, 3, 3)
    assert rewritten.download_as_text() == "one"
    composed = bucket.blob("composed")
    composed.content_type = "text/x-both"
    composed.compose([source, rewritten])
    assert composed.download_as_text() == "oneone"
    assert (composed.component_count, composed.md5_hash, composed.crc32c) == (2, None, crc32c(b"oneone"))
    assert composed.content_type == "text/x-both"


def test_a_batch_does_many_things(bucket, storage):
    for name in ["batch/1", "batch/2"]:
        bucket.blob(name).upload_from_string("x")
    with storage.batch():
        bucket.delete_blob("batch/1")
        bucket.delete_blob("batch/2")
    assert list(bucket.list_blobs(prefix="batch/")) == []
    with pytest.raises(exceptions.NotFound):
        with storage.batch():
            bucket.delete_blob("batch/1")


def test_both_apis_see_the_same_objects(bucket, store):
    bucket.blob("shared/json").upload_from_string("from json")
    obstore.put(store, "shared/xml", b"from xml")
    assert bytes(obstore.get(store, "shared/json").bytes()) == b"from json"
    assert bucket.blob("shared/xml").download_as_bytes() == b"from xml"
    listed = sorted(o["path"] for chunk in obstore.list(store, "shared") for o in chunk)
    assert listed == [b.name for b in bucket.list_blobs(prefix="shared/")] == ["shared/json", "shared/xml"]
    obstore.copy(store, "shared/json", "shared/copy")
    assert bucket.blob("shared/copy").download_as_text() == "from json"
    obstore.rename(store, "shared/copy", "shared/renamed")
    obstore.delete(store, "shared/json")
    assert [b.name for b in bucket.list_blobs(prefix="shared/")] == ["shared/renamed", "shared/xml"]


def test_object_store_creates_only_once_and_updates_what_it_read(store):
    before = obstore.put(store, "once", b"1", mode="create")
    with pytest.raises(obstore.exceptions.AlreadyExistsError):
        obstore.put(store, "once", b"2", mode="create")
    obstore.put(store, "once", b"3", mode=before)
    with pytest.raises(obstore.exceptions.PreconditionError):
        obstore.put(store, "once", b"4", mode=before)
    assert bytes(obstore.get(store, "once").bytes()) == b"3"


def test_object_store_uploads_in_parts_and_reads_ranges(bucket, store):
    content = bytes(i % 251 for i in range(11 << 20))
    obstore.put(store, "parts", content, use_multipart=True, chunk_size=5 << 20)
    assert bucket.get_blob("parts").crc32c == crc32c(content)
    assert bytes(obstore.get_range(store, "parts", start=5, end=9)) == content[5:9]
    assert bytes(obstore.get(store, "parts", options={"range": {"suffix": 3}}).bytes()) == content[-3:]
    with pytest.raises(FileNotFoundError):
        obstore.get(store, "nobody")


def test_what_is_not_there_is_refused_by_name(storage, storage_url, is_embedded):
    if not is_embedded:
        pytest.skip("the real service has it")
    bucket = storage.create_bucket(unique("contract").replace("_", "-"))
    bucket.versioning_enabled = True
    with pytest.raises(exceptions.MethodNotImplemented, match="versioning"):
        bucket.patch()
    answer = requests.get(f"{storage_url}/storage/v1/b/{bucket.name}/notificationConfigs")
    assert (answer.status_code, answer.json()["error"]["errors"][0]["reason"]) == (501, "notImplemented")
    bucket.delete()


def test_another_host_is_not_served(storage_url, is_embedded):
    if not is_embedded:
        pytest.skip("about the embedded server")
    for path in ["/storage/v1/b", "/bucket/key"]:
        assert requests.get(storage_url + path, headers={"Host": "evil.example"}).status_code == 403
        for origin in ["http://evil.example", "null"]:
            assert requests.put(storage_url + path, headers={"Origin": origin}).status_code == 403
