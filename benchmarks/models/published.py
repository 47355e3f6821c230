"""Figures of others on the splits of `benchmarks.models`, each read in the source that is named."""

from __future__ import annotations

from dataclasses import dataclass

DL_EVALUATION = "Ferrari Dacrema et al. 2021, additional material, table 55 (`MaurizioFD/RecSys2019_DeepLearning_Evaluation`)"
NCF_TORCH = "`guoyang9/NCF`, README"
SASREC_2023 = "Klenitskiy & Vasilev 2023 (`antklen/sasrec-bert4rec-recsys23`, README)"
GSASREC = "Petrov & Macdonald 2023 (`asash/gSASRec-pytorch`, README)"


@dataclass(frozen=True, slots=True)
class Row:
    """One published result: HR@10 and NDCG@10 as printed, in the digits of the source."""

    model: str
    hr: str
    ndcg: str
    source: str


PUBLISHED = {
    "ml-1m-ncf": (
        Row("TopPopular", ".4533", ".2542", DL_EVALUATION),
        Row("MF BPR", ".6305", ".3730", DL_EVALUATION),
        Row("ItemKNN, cosine", ".6694", ".3979", DL_EVALUATION),
        Row("RP3beta", ".6758", ".4011", DL_EVALUATION),
        Row("UserKNN, asymmetric", ".6768", ".4100", DL_EVALUATION),
        Row("PureSVD", ".6937", ".4303", DL_EVALUATION),
        Row("NeuMF", ".7093", ".4349", DL_EVALUATION),
        Row("iALS", ".7109", ".4382", DL_EVALUATION),
        Row("SLIM, elastic net", ".7162", ".4468", DL_EVALUATION),
        Row("EASE", ".7192", ".4494", DL_EVALUATION),
        Row("NeuMF, pre-trained", ".726", ".445", "He et al. 2017, as quoted in `guoyang9/NCF`, README"),
        Row("NeuMF, pre-trained, PyTorch", ".720", ".439", NCF_TORCH),
        Row("iALS, 192 dimensions", ".7310", ".4521", "`tohtsky/irspack`, `examples/1-vs-100-negative.ipynb` (repeats Rendle et al. 2021)"),
    ),
    "ml-1m-sasrec": (
        Row("SASRec, released checkpoint", ".2392", ".1259", GSASREC),
        Row("SASRec, binary cross-entropy", ".2500", ".1341", SASREC_2023),
        Row("BERT4Rec", ".2821", ".1516", "Petrov & Macdonald 2022 (`asash/bert4rec_repro`, README)"),
        Row("BERT4Rec", ".2843", ".1537", SASREC_2023),
        Row("gSASRec", ".3003", ".1726", GSASREC),
        Row("SASRec+, cross-entropy", ".3152", ".1821", SASREC_2023),
        Row("SASRec+, sampled cross-entropy", ".3159", ".1857", SASREC_2023),
    ),
}
"""Rows by table, from the lowest NDCG@10 to the highest of each protocol's main source."""
