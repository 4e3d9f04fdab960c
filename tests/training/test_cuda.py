"""What only a GPU shows; skipped where there is none."""

import pytest
import torch

from helpers.gan import fit, tiny_gan

pytestmark = pytest.mark.cuda


@pytest.mark.parametrize("matrix_learning_rate", [0.0, 0.003])
def test_a_training_goes_on_from_its_checkpoint_on_a_gpu(matrix_learning_rate, tmp_path):
    path = tmp_path / "last.ckpt"
    gan = tiny_gan(matrix_learning_rate=matrix_learning_rate)
    fit(gan, tmp_path, 2, accelerator="cuda", devices=1).save_checkpoint(path)
    trainer = fit(tiny_gan(matrix_learning_rate=matrix_learning_rate), tmp_path, 4, path, accelerator="cuda", devices=1)
    steps = [state["step"] for one in trainer.optimizers for state in one.state.values() if "step" in state]
    assert trainer.global_step == 4 and steps and all(step == 4 and step.device.type == "cuda" for step in steps)


def test_scores_within_autocast_are_those_of_float32_on_a_gpu():
    from cgan.models.discriminator import Head

    torch.manual_seed(0)
    head = Head(8, text_dim=16, head_dim=32).cuda()
    hidden, sentence = (torch.randn(4, n, device="cuda").bfloat16() for n in (32, 16))
    with torch.no_grad(), torch.autocast("cuda", torch.bfloat16):
        found = head.logits(hidden, sentence)
    with torch.no_grad():
        expected = head.logits(hidden.float(), sentence.float())
    assert (found - expected).abs().max() < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("cuda_graphs", [False, True])
def test_compiled_losses_move_the_weights_as_eager_ones_do_on_a_gpu(cuda_graphs, tmp_path):
    moves = []
    for compiled in (False, True):
        gan = tiny_gan(penalty_weight=0.01)
        start = torch.cat([value.detach().flatten() for value in gan.parameters()])
        if compiled:
            gan.compile_losses(cuda_graphs=cuda_graphs, report=pytest.fail)
        torch.manual_seed(1)
        fit(gan, tmp_path, 6, accelerator="cuda", devices=1)  # a graph is warmed up, recorded, and replayed
        moves.append(torch.cat([value.detach().flatten().cpu() for value in gan.parameters()]) - start)
    assert (moves[0] - moves[1]).norm() < 0.1 * moves[0].norm()
