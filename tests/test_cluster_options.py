"""Arguments of clusters: wrong ones are refused while the pipeline is built, and display data show the others."""

from __future__ import annotations

import math

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.transforms.display import DisplayData

from beam_tfscript import RunTFScript, TrainTFScript
from beam_tfscript.cluster.counts import Counts
from beam_tfscript.errors import ArgumentError
from beam_tfscript.options.cluster_options import check_cluster
from tests.running import script

DEFAULTS = {
    "num_workers": None, "num_ps": None, "num_evaluators": 0, "parallelism": None, "placement": None,
    "tf_config": None, "ps_main": False, "cluster_grace": 60.0, "cluster_timeout": 600.0, "cluster_network": None,
    "cluster_ports": None, "feed": None,
}  # fmt: skip


def run_script(**arguments):
    return RunTFScript(script("echo.py"), **arguments)


def train_script(**arguments):
    return TrainTFScript(script("train.py"), "/models", entry="keras_fit", **arguments)


@pytest.mark.parametrize(
    ("arguments", "counts"),
    [
        ({"num_ps": 1}, Counts(1, 1, 0)),
        ({"num_evaluators": 1}, Counts(1, 0, 1)),
        ({"parallelism": 8}, Counts(6, 2, 0)),
        ({"placement": "one_host", "num_workers": 2}, Counts(2, 0, 0)),
    ],
)
def test_a_distributed_script_is_one_cluster(arguments, counts):
    assert check_cluster({**DEFAULTS, **arguments}, is_training=False).counts == counts


@pytest.mark.parametrize(
    ("arguments", "counts"),
    [
        ({}, Counts(1, 0, 0)),
        ({"num_workers": 3}, Counts(3, 0, 0)),
        ({"placement": "independent"}, Counts(1, 0, 0)),
    ],
)
def test_a_training_is_always_one_cluster(arguments, counts):
    assert check_cluster({**DEFAULTS, **arguments}, is_training=True).counts == counts


@pytest.mark.parametrize("arguments", [{}, {"num_workers": 4}, {"num_workers": 4, "placement": "independent"}])
def test_shards_of_a_run_are_alone_unless_asked_for(arguments):
    assert check_cluster({**DEFAULTS, **arguments}, is_training=False) is None


@pytest.mark.parametrize("arguments", [{}, {"placement": "independent"}, {"num_workers": 3}])
def test_shards_that_are_alone_may_be_counted_by_parallelism(arguments):
    options = run_script(parallelism=3, num_ps=0, **arguments)._options
    assert (options.num_workers, options.cluster) == (3, None)


@pytest.mark.parametrize("make", [run_script, train_script])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"cluster_network": "10.0.0.0/8", "num_ps": 1}, 'cluster_network is for placement="spread"'),
        ({"placement": "spread", "feed": "stream"}, 'placement="spread" is for feed="dataset".*use "one_host"'),
        ({"placement": "spread", "feed": "bundles"}, 'placement="spread" is for feed="dataset"|one of .dataset.'),
        ({"num_ps": 1, "cluster_network": "10.0.0.1/8"}, 'cluster_network must be a network such as "10.0.0.0/8"'),
        ({"num_ps": 1, "cluster_ports": "80"}, 'cluster_ports must be a range of ports such as "30000-30999", got'),
        ({"num_ps": 1, "cluster_ports": "90-80"}, "cluster_ports must be a range of ports"),
        ({"num_ps": 1, "cluster_ports": "80-65536"}, "cluster_ports must be a range of ports"),
        ({"placement": "spread", "cluster_timeout": 0}, "cluster_timeout must be a number of seconds greater than 0"),
        ({"placement": "anywhere"}, "placement must be one of 'independent', 'one_host', 'spread' or None"),
        ({"placement": "independent", "num_ps": 1}, 'placement="independent" has no parameter servers'),
        ({"placement": "independent", "num_evaluators": 1}, 'placement="independent" has no parameter servers'),
        ({"num_workers": 0}, "num_workers must be a whole number of at least 1, got 0"),
        ({"num_ps": -1}, "num_ps must be a whole number of at least 0, got -1"),
        ({"num_ps": True}, "num_ps must be a whole number"),
        ({"num_evaluators": 1.5}, "num_evaluators must be a whole number"),
        ({"parallelism": 4, "num_workers": 4}, "`parallelism` must be greater than num_workers"),
        ({"parallelism": 4, "num_workers": 2, "num_ps": 1}, "must add up to `parallelism`"),
        ({"tf_config": "never", "num_ps": 1}, 'tf_config must be "always" or None'),
        ({"ps_main": "no", "num_ps": 1}, "ps_main must be True or False, got 'no'"),
        ({"ps_main": True}, "ps_main=True is for parameter servers, and this cluster has none"),
        ({"cluster_grace": -1}, "cluster_grace must be a number of seconds of at least 0, got -1"),
        ({"cluster_grace": math.nan}, "cluster_grace must be a number of seconds"),
        ({"cluster_grace": math.inf}, "cluster_grace must be a number of seconds"),
        ({"cluster_grace": "60"}, "cluster_grace must be a number of seconds"),
        ({"feed": "bundles", "num_ps": 1}, 'feed="bundles" has no clusters'),
    ],
)
def test_rejects_while_the_pipeline_is_built(make, arguments, message):
    with pytest.raises(ArgumentError, match=message):
        make(**arguments)


def test_rejects_a_training_of_one_model_per_shard():
    with pytest.raises(ArgumentError, match="would train one model per shard"):
        train_script(placement="independent", num_workers=2)


def test_rejects_tf_config_where_there_is_no_cluster():
    with pytest.raises(ArgumentError, match='tf_config="always" is for a cluster: give placement="one_host"'):
        run_script(num_workers=2, tf_config="always")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"model_dir": ""}, "model_dir must be a path, a URI or None, got ''"),
        ({"model_dir": "nowhere://models"}, "model_dir: no file system is known for"),
        ({"checkpoint_dir": 3}, "checkpoint_dir must be a path, a URI or None, got 3"),
        ({"checkpoint_dir": "s3://id:hunter2@bucket/x"}, "checkpoint_dir must be a URI without keys"),
    ],
)
def test_rejects_directories_that_cannot_be_used_without_showing_keys(arguments, message):
    with pytest.raises(ArgumentError, match=message) as caught:
        TrainTFScript(script("train.py"), **{"model_dir": "/models", "entry": "keras_fit", **arguments})
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("make", [run_script, train_script])
def test_the_cluster_is_shown_with_the_transform(make):
    items = {item.key: item.value for item in DisplayData.create_from(make(parallelism=8, num_evaluators=1)).items}
    assert (items["num_workers"], items["num_ps"], items["num_evaluators"]) == (6, 2, 1)


def test_spread_cluster_needs_a_directory_that_all_workers_see():
    options = PipelineOptions(["--environment_type=DOCKER", "--temp_location=/tmp"])
    pipeline = beam.Pipeline(runner="PortableRunner", options=options)
    with pytest.raises(
        ArgumentError, match='placement="spread" needs a directory .*give spool_dir, or --temp_location'
    ):
        _ = pipeline | run_script(placement="spread", num_workers=2)
    _ = pipeline | "Given" >> run_script(placement="spread", num_workers=2, spool_dir="/shared")
