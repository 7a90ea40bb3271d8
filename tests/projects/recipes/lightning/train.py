"""Train a small network with Lightning."""

import os

import lightning
import torch
from lightning.pytorch.callbacks import TQDMProgressBar

steps = int(os.environ.get("STEPS", "20"))


class Model(lightning.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(8, 1)

    def training_step(self, batch: list, index: int) -> torch.Tensor:
        loss = (self.layer(batch[0]) - batch[0].sum(1, keepdim=True)).pow(2).mean()
        self.log("train_loss", loss, prog_bar=True)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


print(f"rank {os.environ['RANK']} of {os.environ['WORLD_SIZE']}", flush=True)
world = int(os.environ["WORLD_SIZE"])
data = torch.utils.data.TensorDataset(torch.zeros(1, 8).expand(4 * steps * world, 8))
trainer = lightning.Trainer(
    num_nodes=int(os.environ["NNODES"]),
    devices=int(os.environ["NPROC_PER_NODE"]),
    accelerator="auto",
    strategy="ddp",
    max_epochs=1,
    log_every_n_steps=5,
    enable_checkpointing=False,
    logger=False,
    callbacks=[TQDMProgressBar(refresh_rate=5)],  # Lightning draws its other bar only on a terminal
)
trainer.fit(Model(), torch.utils.data.DataLoader(data, batch_size=4))
print(f"rank {os.environ['RANK']} done", flush=True)
