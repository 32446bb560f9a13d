"""The vllm engine: vLLM in process, on the GPUs of one machine, or on its CPU where vLLM is a build for that.

vLLM's scheduler and workers are processes of their own, fed here with one request for each sample, so that the number
in flight is bounded and answers come back one by one. Samples of a prompt share its prefix through vLLM's cache.
vLLM alone cannot promise equal samples in other company: an answer, once there, has to be kept.
"""

from __future__ import annotations

import json
import logging
import logging.config
import multiprocessing
import multiprocessing.spawn
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer

from corpusmith.engines.process_guard import end_marked, release, start_guard
from corpusmith.engines.protocol import (
    JSON_ON_ONE_LINE,
    OUT_OF_MEMORY,
    Answer,
    EngineDied,
    OutOfMemory,
    Prompt,
    Question,
    failure,
)
from corpusmith.engines.rendering import render_prompt
from corpusmith.errors import InputError
from corpusmith.identity import canonical, digest
from corpusmith.node_caches import use_local_caches
from corpusmith.pretrained import load_part
from corpusmith.program import log

DTYPES = ("float32", "bfloat16", "float16")
# Answers that are generated together where nobody says how many.
MAX_NUM_SEQS = 256
# In flight for each answer that vLLM generates at once: what waits keeps vLLM busy while answers are handed on.
_IN_FLIGHT = 4
# Engine arguments that are the engine's own business.
_OWN = {
    "model", "tokenizer", "dtype", "tensor_parallel_size", "max_model_len", "gpu_memory_utilization", "max_num_seqs",
    "quantization", "trust_remote_code", "data_parallel_size", "n", "runner", "convert", "skip_tokenizer_init",
}  # fmt: skip
# Engine arguments that change how fast answers come, and not what they are.
_SPEED = {
    "async_scheduling", "block_size", "compilation_config", "cpu_offload_gb", "disable_custom_all_reduce",
    "distributed_executor_backend", "enable_chunked_prefill", "enable_prefix_caching", "enforce_eager",
    "kv_cache_memory_bytes", "load_format", "max_num_batched_tokens", "max_parallel_loading_workers",
    "num_gpu_blocks_override", "pipeline_parallel_size", "scheduling_policy", "swap_space",
}  # fmt: skip
# Memory for attention on a CPU, where gpu_memory_utilization would take a share of the whole machine's.
_CPU_CACHE_BYTES = 2 << 30
# A large model from a slow file system takes longer than the ten minutes that vLLM waits.
_SECONDS_TO_START = 3600
_SECONDS_TO_CLOSE = 10.0
# Read by logged_python.sh, and by it vLLM's processes are known.
_LOG_VARIABLE = "CORPUSMITH_LOG"
_LINES_OF_LOG = 20
_TROUBLE = re.compile(r"^ERROR |Traceback")
# A line of a log that names an exception, with what stands before it cut off.
_EXCEPTION = re.compile(r"(?:^|[\s\]])((?:\w+\.)*\w*(?:Error|Exception|Interrupt): .*\S)")


class VllmEngine:
    """A causal language model in vLLM.

    device: cuda, or cpu for vLLM's build for CPUs; dtype: float32, bfloat16 or float16; tp: GPUs that share the model;
    max_length: most tokens of prompt and answer, by default the model's; gpu_memory_utilization: share of each GPU's
    memory; max_num_seqs: answers that are generated together; quantization: as vLLM names it; options: further
    engine arguments of vLLM.
    Raises InputError where vLLM cannot start with this model and these settings, OutOfMemory where a device is too
    small for them.
    """

    retries = 0
    _engine: Any = None
    _guard: subprocess.Popen[bytes] | None = None
    _closed = False

    def __init__(
        self,
        folder: str | Path,
        *,
        device: str,
        dtype: str,
        tp: int = 1,
        max_length: int | None = None,
        trust_remote_code: bool = False,
        gpu_memory_utilization: float = 0.9,
        max_num_seqs: int = MAX_NUM_SEQS,
        quantization: str | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        options = dict(options or {})
        _check_settings(dtype, options)
        self._tokenizer = load_part(AutoTokenizer, folder, "tokenizer", trust_remote_code=trust_remote_code)
        self._log = Path(tempfile.mkdtemp(prefix="corpusmith-vllm-")) / "vllm.log"
        arguments = {
            "model": str(folder),
            "dtype": dtype,
            "tensor_parallel_size": tp,
            "max_model_len": max_length,
            "gpu_memory_utilization": gpu_memory_utilization,
            "max_num_seqs": max_num_seqs,
            "quantization": quantization,
            "trust_remote_code": trust_remote_code,
            "enable_prefix_caching": True,
            "disable_log_stats": True,
            "use_tqdm_on_load": False,
            # The backend that lets a schema say how much white space there may be.
            "structured_outputs_config": {"backend": "guidance"},
            **(_cpu_arguments() if device == "cpu" else {}),
            **options,
        }
        self._mark = f"{_LOG_VARIABLE}={self._log}"
        try:
            self._guard = start_guard(self._mark, self._log.parent)
            _prepare_environment(device, self._log)
            with _quiet(self._log):
                self._start(device, arguments)
        except BaseException:
            self.close()
            raise
        self._in_flight: dict[int, Question] = {}
        self._refused: list[Answer] = []
        model_config = self._engine.vllm_config.model_config
        # vLLM shortens what does not fit into memory where max_model_len is -1.
        self._max_length: int = model_config.max_model_len
        self._vocabulary: int = model_config.get_vocab_size()
        self.capacity = _IN_FLIGHT * max_num_seqs
        self.heard = time.monotonic()
        self.family = family_of(dtype, quantization, options)
        self.template = digest(self._tokenizer.chat_template or "")

    def prepare(self, request: Mapping[str, Any]) -> Prompt:
        """Renders messages through the chat template; a raw prompt gets the tokenizer's special tokens."""
        return render_prompt(request, self._tokenizer, self._vocabulary, self._max_length)

    def submit(self, question: Question) -> None:
        """Takes a question. Raises EngineDied where vLLM has ended."""
        self._in_flight[question.handle] = question
        prompt = {"type": "token", "prompt_token_ids": list(question.prompt.token_ids)}
        try:
            self._engine.add_request(str(question.handle), prompt, self._parameters(question))
        except self._dead_error as error:
            raise self._died() from error
        except (self._refusal, ValueError) as error:
            # Mostly a constraint that cannot be compiled.
            self._refused.append(failure(question, str(error)))

    def collect(self, timeout: float | None = None) -> Sequence[Answer]:
        """Waits until some answers are there and gives them; empty where none is in flight, or `timeout` seconds pass.

        Raises EngineDied where vLLM has ended: what was in flight has no answer then.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        answers, self._refused = self._refused, []
        late = False
        while self._in_flight and not answers and not late and self._has_word(deadline):
            try:
                outputs = self._engine.step()
            except self._dead_error as error:
                raise self._died() from error
            self.heard = time.monotonic()
            answers = [self._answer(output) for output in outputs if output.finished]
            # Most steps finish no answer, and the next word may be there already.
            late = deadline is not None and self.heard >= deadline
        for answer in answers:
            del self._in_flight[answer.handle]
        return answers

    def close(self) -> None:
        """Ends vLLM's processes, and with them what they hold of the GPUs."""
        if self._closed:
            return
        self._closed = True
        deadline = time.monotonic()
        try:
            if self._engine is not None:
                deadline += _SECONDS_TO_CLOSE
                # It asks the scheduler to end, and kills one that has not after five seconds.
                self._engine.engine_core.shutdown()
                self._engine = None
        finally:
            end_marked(self._mark, deadline - time.monotonic())
            if self._guard is not None:
                release(self._guard)
            shutil.rmtree(self._log.parent, ignore_errors=True)

    def _has_word(self, deadline: float | None) -> bool:
        """Waits for word from vLLM's scheduler, without which a step would wait for ever; False if none has come."""
        outputs = self._engine.engine_core.outputs_queue
        with outputs.not_empty:
            left = None if deadline is None else deadline - time.monotonic()
            return outputs.not_empty.wait_for(lambda: len(outputs.queue) > 0, left)

    def _start(self, device: str, arguments: Mapping[str, Any]) -> None:
        log.info("starting vLLM, which writes its log to %s", self._log)
        try:
            import vllm
            from vllm import EngineArgs
            from vllm.exceptions import VLLMClientError
            from vllm.platforms import current_platform
            from vllm.v1.engine.exceptions import EngineDeadError
            from vllm.v1.engine.llm_engine import LLMEngine
        except ImportError as error:
            raise InputError(f"no vLLM that can be imported ({error}); its environment is envs/vllm.yaml") from error
        if current_platform.is_cpu() != (device == "cpu"):
            raise InputError(f"vLLM {vllm.__version__} of this environment is not built for device {device}")
        self._dead_error, self._refusal = EngineDeadError, VLLMClientError
        unknown = sorted(set(arguments) - set(EngineArgs.__dataclass_fields__))
        if unknown:
            raise InputError(f"vLLM {vllm.__version__} has no engine argument {', '.join(unknown)}")
        before = {process.pid for process in multiprocessing.active_children()}
        try:
            self._engine = LLMEngine.from_engine_args(EngineArgs(**arguments))
        except Exception as error:
            reason = self._reason() or _one_line(error)
            if OUT_OF_MEMORY.search(reason):
                raise OutOfMemory(reason) from error
            raise InputError(f"vLLM does not start: {reason}") from error
        logging.getLogger("vllm").setLevel(logging.ERROR)
        cores = [process for process in multiprocessing.active_children() if process.pid not in before]
        threading.Thread(target=self._watch, args=(cores,), name="vllm watch", daemon=True).start()
        # The scheduler is asked this once, and kept: afterwards no question waits for it.
        self._engine.get_supported_tasks()

    def _watch(self, cores: Sequence[Any]) -> None:
        """Wakes who waits for answers when vLLM's scheduler has ended without a word."""
        answers = self._engine.engine_core.outputs_queue
        error = self._dead_error()
        wait([process.sentinel for process in cores])
        answers.put(error)

    def _parameters(self, question: Question) -> Any:
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams

        sampling = question.sampling
        constraint = None
        if question.choices is not None:
            constraint = StructuredOutputsParams(choice=list(question.choices))
        elif question.json_schema is not None:
            constraint = StructuredOutputsParams(json=_on_one_line(question.json_schema))
        return SamplingParams(
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            top_k=sampling.top_k,
            seed=question.seed if sampling.temperature > 0 else None,
            max_tokens=min(sampling.max_tokens, self._max_length - len(question.prompt.token_ids)),
            stop=list(sampling.stop),
            structured_outputs=constraint,
            # Without stop strings vLLM need not follow the text, only the tokens.
            detokenize=bool(sampling.stop),
            output_kind=RequestOutputKind.FINAL_ONLY,
            skip_clone=True,
        )

    def _answer(self, output: Any) -> Answer:
        question = self._in_flight[int(output.request_id)]
        (completion,) = output.outputs
        if completion.finish_reason not in ("stop", "length"):
            return failure(question, f"vLLM has given the request up ({completion.finish_reason})")
        text = self._tokenizer.decode(
            completion.token_ids, skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        finish_reason = completion.finish_reason
        places = [place for place in (text.find(stop) for stop in question.sampling.stop) if place >= 0]
        if places:
            text, finish_reason = text[: min(places)], "stop"
        tokens = len(question.prompt.token_ids)
        return Answer(question.handle, text, finish_reason, tokens, len(completion.token_ids))

    def _died(self) -> EngineDied:
        reason = self._reason()
        if reason is None:
            return EngineDied("vLLM's processes have ended without a word; the machine may have run out of memory")
        return OutOfMemory(reason) if OUT_OF_MEMORY.search(reason) else EngineDied(f"vLLM has ended: {reason}")

    def _reason(self) -> str | None:
        """What vLLM's log gives as the first error, one that speaks of memory before others; its end goes to ours."""
        try:
            lines = self._log.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            return None
        log.error("vLLM's log ends:\n%s", "\n".join(lines[-_LINES_OF_LOG:]))
        start = next((place for place, line in enumerate(lines) if _TROUBLE.search(line)), len(lines))
        found = [match[1] for line in lines[start:] if (match := _EXCEPTION.search(line))]
        return next((line for line in found if OUT_OF_MEMORY.search(line)), found[0] if found else None)


def _check_settings(dtype: str, options: Mapping[str, Any]) -> None:
    if dtype not in DTYPES:
        raise InputError(f"dtype is {dtype}; vLLM takes {', '.join(DTYPES)}")
    taken = sorted(set(options) & _OWN)
    if taken:
        raise InputError(f"vllm.options holds {', '.join(taken)}, which the engine sets by itself")


def family_of(dtype: str, quantization: str | None, options: Mapping[str, Any]) -> str:
    """Engines that differ in what they compute with are not of one family; how they are sped up does not matter."""
    settings = {key: value for key, value in options.items() if key not in _SPEED}
    if quantization is not None:
        settings["quantization"] = quantization
    return f"vllm {dtype}" + (f" {digest(canonical(settings))}" if settings else "")


def _cpu_arguments() -> dict[str, Any]:
    # Prefill in chunks wants of a seeded sample's generator what those of CPUs do not have.
    return {"enable_chunked_prefill": False, "kv_cache_memory_bytes": _CPU_CACHE_BYTES}


def _prepare_environment(device: str, log_file: Path) -> None:
    """What vLLM and its processes read from environment variables; what the user has set stays."""
    use_local_caches()
    settings = {"HF_HUB_OFFLINE": "1", "VLLM_ENGINE_READY_TIMEOUT_S": str(_SECONDS_TO_START)}
    # Jobs that bind their threads by themselves would all bind them to the same cores.
    settings |= {"VLLM_CPU_OMP_THREADS_BIND": "nobind", "OMP_NUM_THREADS": "1"} if device == "cpu" else {}
    for name, value in settings.items():
        os.environ.setdefault(name, value)
    os.environ |= {"VLLM_NO_USAGE_STATS": "1", "VLLM_DO_NOT_TRACK": "1", "VLLM_ENABLE_V1_MULTIPROCESSING": "1"}
    # A fork of a process with threads, such as Arrow's, may hang.
    os.environ["VLLM_WORKER_MULTIPROC_METHOD"] = "spawn"
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    config = log_file.with_name("logging.json")
    config.write_text(json.dumps(_logging_config(log_file)), encoding="utf-8")
    os.environ |= {"VLLM_CONFIGURE_LOGGING": "1", "VLLM_LOGGING_CONFIG_PATH": str(config)}
    os.environ |= {"CORPUSMITH_LOGGED_PYTHON": sys.executable, _LOG_VARIABLE: str(log_file)}


def _logging_config(path: Path) -> dict[str, Any]:
    """All that vLLM says goes to one file."""
    line = {"format": "%(levelname)s %(asctime)s %(processName)s: %(message)s"}
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"line": line},
        "handlers": {"file": {"class": "logging.FileHandler", "filename": str(path), "formatter": "line"}},
        "loggers": {"vllm": {"handlers": ["file"], "level": "INFO", "propagate": False}},
    }


@contextmanager
def _quiet(log_file: Path) -> Iterator[None]:
    """Inside, whatever this process warns of is left unsaid, and what new processes print goes to the file."""
    logging.config.dictConfig(_logging_config(log_file))
    python = multiprocessing.spawn.get_executable()
    multiprocessing.set_executable(str(Path(__file__).with_name("logged_python.sh")))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        multiprocessing.set_executable(os.fsdecode(python))


def _on_one_line(schema: str) -> str:
    """The schema for JSON on one line. What is no schema stays as it is."""
    try:
        found = json.loads(schema)
    except ValueError:
        return schema
    return json.dumps({"x-guidance": JSON_ON_ONE_LINE, **found}) if isinstance(found, dict) else schema


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
