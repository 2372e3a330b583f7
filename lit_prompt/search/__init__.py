"""Search machinery, and the searchers for hard prompts: one algorithm a file."""

from lit_prompt.search.arca import ARCA
from lit_prompt.search.bank import ResultBank
from lit_prompt.search.best_so_far import BestSoFar, StopReason
from lit_prompt.search.chunk_search import ChunkSearch, Part
from lit_prompt.search.coordinate import CoordinateDescent
from lit_prompt.search.gbda import GBDA
from lit_prompt.search.gcg import GCG
from lit_prompt.search.hotflip import HotFlip
from lit_prompt.search.micro_batch import MicroBatch, is_out_of_memory
from lit_prompt.search.pez import PEZ
from lit_prompt.search.prompt_bank import PromptBank
from lit_prompt.search.random_search import RandomSearch
from lit_prompt.search.searcher import Found, Searcher, SearchState
from lit_prompt.search.shared import SharedSearch
from lit_prompt.search.starts import TokenStart, random_starts, text_starts
from lit_prompt.search.token_problem import TokenProblem

#: Every algorithm that finds hard prompts.
SEARCHERS = (SharedSearch, GCG, HotFlip, ARCA, PEZ, GBDA, CoordinateDescent, RandomSearch)

__all__ = [
    "ARCA",
    "GBDA",
    "GCG",
    "PEZ",
    "SEARCHERS",
    "BestSoFar",
    "ChunkSearch",
    "CoordinateDescent",
    "Found",
    "HotFlip",
    "MicroBatch",
    "Part",
    "PromptBank",
    "RandomSearch",
    "ResultBank",
    "SearchState",
    "Searcher",
    "SharedSearch",
    "StopReason",
    "TokenProblem",
    "TokenStart",
    "is_out_of_memory",
    "random_starts",
    "text_starts",
]
