"""What transformers alone makes of a prompt that is pasted."""

import scipy.stats
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer


class Pasted:
    """What transformers alone makes of pasted text; an EOS that the tokenizer appends is dropped."""

    def __init__(self, folder):
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.model = AutoModelForCausalLM.from_pretrained(folder).eval()
        self.appends = self.tokenizer("")["input_ids"][-1:] == [self.tokenizer.eos_token_id]

    def ids(self, text):
        ids = self.tokenizer(text)["input_ids"]
        return ids[:-1] if self.appends else ids

    def kl(self, log_p, ids=None, embeddings=None):
        x = {"input_ids": torch.tensor([ids])} if embeddings is None else {"inputs_embeds": embeddings.unsqueeze(0)}
        with torch.no_grad():
            q = self.model(**x).logits[0, -1].double().softmax(-1)
        return scipy.stats.entropy(log_p.double().exp().numpy(), q.numpy())

    def embed(self, ids):
        return self.model.get_input_embeddings()(torch.tensor(ids, dtype=torch.long))
