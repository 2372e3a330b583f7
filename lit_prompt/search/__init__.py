"""Search machinery, and the searchers for hard prompts: one algorithm per file."""

from lit_prompt.search.arca import ARCA
from lit_prompt.search.best_so_far import BestSoFar, StopReason
from lit_prompt.search.chunk_search import ChunkSearch
from lit_prompt.search.coordinate_descent import CoordinateDescent
from lit_prompt.search.gbda import GBDA
from lit_prompt.search.gcg import GCG
from lit_prompt.search.hotflip import HotFlip
from lit_prompt.search.pez import PEZ
from lit_prompt.search.prompt_bank import PromptBank
from lit_prompt.search.random_search import RandomSearch
from lit_prompt.search.screening import Screening
from lit_prompt.search.search_results import SearchResults
from lit_prompt.search.searcher import Found, Searcher, SearchState
from lit_prompt.search.shared_search import SharedSearch
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
    "PromptBank",
    "RandomSearch",
    "Screening",
    "SearchResults",
    "SearchState",
    "Searcher",
    "SharedSearch",
    "StopReason",
    "TokenProblem",
    "TokenStart",
    "random_starts",
    "text_starts",
]
