"""Slot F1 while training: the model answers a few validation examples, and is scored."""

from typing import Any

from sem.core.taskspec import TaskSpec
from sem.eval.answers import answers
from sem.eval.answers.answers import Answer
from sem.eval.scoring import metrics, scoring
from sem.lm.local.hf import HfGenerator
from sem.train.rows.stages import Job


class Probe:
    """A small set of validation examples with their prompts; `measure` answers them greedily.

    Slots that need a similarity model are left out here: they are scored by `fab eval.report`.
    """

    def __init__(self, job: Job) -> None:
        self.job = job
        self.tasks: dict[str, TaskSpec] = job.tasks
        self.prompts = answers.ordered_prompts(
            job.val_examples, job.tasks, job.chat, job.answering
        )

    def measure(self, model: Any) -> dict[str, float]:
        """eval_slot_f1 and the share of answers that are valid JSON, both 0 to 1."""
        was_training = model.training
        model.eval()
        generator = HfGenerator(model, self.job.chat)
        size, scores = self.job.answering.batch, []
        for start in range(0, len(self.prompts), size):
            part = self.prompts[start : start + size]
            outputs = generator.generate([prompt for _, prompt in part])
            for (example, _), output in zip(part, outputs, strict=True):
                answer = Answer(
                    example.id, example.task, output.text, output.finish, 0, 0, 0, len(part)
                )
                spec = self.tasks[example.task]
                scores.append(scoring.score_answer(example, answer, spec, None, self.job.slots))
        model.train(was_training)
        if was_training and hasattr(model, "for_training"):
            # unsloth's generate leaves gradient checkpointing off.
            model.for_training()
        f1 = metrics.micro([slot for score in scores for slot in score.slots.values()])["f1"]
        valid = sum(score.json_valid for score in scores) / len(scores)
        return {"eval_slot_f1": f1 or 0.0, "eval_json_valid": valid}
