from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from daskscore.errors import InputError
from daskscore.workspace.names import NAME, Kind
from daskscore.workspace.references import OnDatastore, Registered, is_reference, parse

names = st.from_regex(NAME, fullmatch=True)
words = st.from_regex(r"[A-Za-z0-9 _.-]{1,20}", fullmatch=True)
paths = st.text(st.characters(exclude_categories=["Cs"])).filter(lambda path: ".." not in path.split("/"))


@st.composite
def subscriptions(draw: st.DrawFn) -> str:
    groups = draw(st.sampled_from(["resourceGroups", "resourcegroups"]))
    provider = draw(st.sampled_from(["", "providers/Microsoft.MachineLearningServices/"]))
    return f"subscriptions/{draw(words)}/{groups}/{draw(words)}/{provider}workspaces/{draw(words)}/"


@st.composite
def versions_and_labels(draw: st.DrawFn) -> tuple[str, str]:
    """What stands behind the name in a long form, and what it means."""
    word = draw(names)
    return draw(
        st.sampled_from(
            [(f"versions/{word}", word), (f"labels/{word}", f"@{word}"), (f"versions/labels/{word}", f"@{word}")]
        )
    )


@given(names, names)
def test_the_short_forms_mean_what_they_say(name: str, version: str) -> None:
    assert parse(f"azureml:{name}:{version}") == parse(f"data:{name}:{version}") == Registered("data", name, version)
    assert (
        parse(f"azureml:{name}@{version}") == parse(f"data:{name}@{version}") == Registered("data", name, f"@{version}")
    )
    assert parse(f"data:{name}") == Registered("data", name, "@latest")
    assert parse(f"azureml:{name}:{version}", "model") == Registered("model", name, version)
    assert parse(f"model:{name}", "model") == Registered("model", name, "@latest")


@given(names, paths, st.one_of(st.just(""), subscriptions()))
def test_a_path_on_a_datastore_is_kept_letter_by_letter(name: str, path: str, subscription: str) -> None:
    assert parse(f"azureml://{subscription}datastores/{name}/paths/{path}") == OnDatastore(name, path)


@given(names, versions_and_labels(), st.one_of(subscriptions(), st.just("locations/westeurope/workspaces/w/")))
def test_the_long_forms_mean_the_name_in_this_workspace(name: str, which: tuple[str, str], place: str) -> None:
    written, meant = which
    assert parse(f"azureml://{place}data/{name}/{written}") == Registered("data", name, meant)
    assert parse(f"azureml:/{place}data/{name}/{written}") == Registered("data", name, meant)
    assert parse(f"azureml://{place}models/{name}/{written}", "model") == Registered("model", name, meant)


@given(
    st.one_of(st.text(), st.text("azureml:/@.dtsphv1 \n").map("azureml:".__add__)), st.sampled_from(["data", "model"])
)
@example("azureml:", "data")
@example("azureml:a:1\n", "data")
@example("azureml://datastores/a/paths/..", "data")
def test_any_text_is_a_reference_or_an_input_error_and_a_reference_reads_back(text: str, kind: Kind) -> None:
    try:
        found = parse(text, kind)
    except InputError:
        return
    assert is_reference(text)
    assert parse(str(found), kind) == found


@pytest.mark.parametrize(
    "text",
    [
        "azureml:",
        "azureml:a:",
        "azureml:a:1:2",
        "azureml:a@",
        "azureml:a b:1",
        "data:",
        "azureml://datastores/lake",
        "azureml://datastores//paths/a",
        "azureml://locations/l/workspaces/w/data/a",
        "azureml://registries/r/data/a/versions/1",
        "azureml://jobs/j/outputs/o",
    ],
)
def test_a_malformed_reference_is_answered_with_the_forms_there_are(text: str) -> None:
    with pytest.raises(InputError) as refused:
        parse(text)
    assert str(refused.value).startswith(
        f"{text} is no reference to registered data. Write one of azureml:name:version, "
    )
    assert "azureml://datastores/<datastore>/paths/<path>" in str(refused.value)


def test_a_name_of_azure_needs_a_version_as_it_does_there() -> None:
    with pytest.raises(
        InputError, match=r"^azureml:a names no version\. Write azureml:a:<version> or azureml:a@latest$"
    ):
        parse("azureml:a")


def test_data_is_no_model() -> None:
    with pytest.raises(InputError, match=r"^data:a names registered data where a registered model is wanted"):
        parse("data:a", "model")
    with pytest.raises(InputError, match=r"^model:a names a registered model where registered data is wanted"):
        parse("model:a")


def test_a_path_on_a_datastore_stays_on_it() -> None:
    with pytest.raises(InputError, match="cannot lead out of it"):
        parse("azureml://datastores/lake/paths/a/../../b")


@pytest.mark.parametrize("text", ["./data:x", "/data:x", "s3://data:x", "C:/x", "database:x", "data"])
def test_other_texts_are_left_to_others(text: str) -> None:
    assert not is_reference(text)
