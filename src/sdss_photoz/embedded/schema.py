"""The tables of the embedded archive: those columns of the survey that are used, with its names and types.

`PAGES` gives the page of the schema browser for each table. Types are SQL Server's; `duckdb_type` converts them.
"""

from sdss_photoz.surveys import SDSS

BROWSER = "https://skyserver.sdss.org/dr12/en/help/browser/browser.aspx#&&history=description+"

_DUCKDB = {
    "tinyint": "UTINYINT",  # unsigned in SQL Server
    "smallint": "SMALLINT",
    "int": "INTEGER",
    "bigint": "BIGINT",
    "real": "FLOAT",
    "float": "DOUBLE",  # double precision in SQL Server
    "varchar": "VARCHAR",
}


def _columns(text):
    """Expand lines such as ``bigint: objID`` and ``real: sky_?`` (one column per band) into {name: type}."""
    columns = {}
    for line in filter(None, map(str.strip, text.splitlines())):
        kind, names = line.split(":")
        for name in names.split():
            for band in SDSS.band_names if "?" in name else " ":
                columns[name.replace("?", band)] = kind
    return columns


TABLES = {
    "PhotoObjAll": _columns("""
        bigint: objID specObjID fieldID flags
        smallint: run rerun field obj nChild type
        tinyint: skyVersion camcol mode insideMask
        int: clean mjd
        float: ra dec cx cy cz
        real: petroRad_r expAB_r deVAB_r fracDeV_r
        real: psfMag_? modelMag_? modelMagErr_? cModelMag_? cModelMagErr_? petroMag_? petroMagErr_?
        real: extinction_? dered_? petroR50_? petroR90_? psffwhm_? sky_?
    """),
    "SpecObjAll": _columns("""
        bigint: specObjID bestObjID fluxObjID plateID legacy_target1 primTarget
        smallint: sciencePrimary legacyPrimary plate fiberID
        int: mjd zWarning
        varchar: survey instrument programname run2d sourceType targetType class subClass
        float: ra dec
        real: z zErr velDisp snMedian_r
    """),
    "Photoz": _columns("""
        bigint: objID
        real: z zErr nnVol
        smallint: nnCount photoErrorClass
    """),
    "galSpecInfo": _columns("""
        bigint: specObjID
        smallint: plateid fiberid primtarget sectarget z_warning reliable
        int: mjd
        varchar: targettype spectrotype subclass release
        real: ra dec z z_err v_disp v_disp_err sn_median e_bv_sfd
    """),
    "galSpecExtra": _columns("""
        bigint: specObjID
        smallint: bptclass
        real: lgm_tot_p50 sfr_tot_p50 specsfr_tot_p50
    """),
    "Field": _columns("""
        bigint: fieldID
        smallint: run rerun field
        tinyint: skyVersion camcol
        int: quality
        float: mjd_r ra dec raMin raMax decMin decMax
        real: a_? b_? c_? d_? e_? f_? psfWidth_? sky_?
    """),
    "Frame": _columns("""
        bigint: fieldID
        int: zoom stripe
        smallint: run rerun field
        tinyint: camcol
        varchar: strip
        float: a b c d e f node incl mu nu ra dec raMin raMax decMin decMax
    """),
    "Run": _columns("""
        smallint: run rerun startField endField
        int: mjd stripe
        varchar: strip
        float: node incl
    """),
    "Neighbors": _columns("""
        bigint: objID neighborObjID
        float: distance
        smallint: type neighborType
        tinyint: mode neighborMode
    """),
}

_FLAGS = """
    CANONICAL_CENTER BRIGHT EDGE BLENDED CHILD PEAKCENTER NODEBLEND NOPROFILE NOPETRO MANYPETRO NOPETRO_BIG
    DEBLEND_TOO_MANY_PEAKS COSMIC_RAY MANYR50 MANYR90 BAD_RADIAL INCOMPLETE_PROFILE INTERP SATURATED NOTCHECKED
    SUBTRACTED NOSTOKES BADSKY PETROFAINT TOO_LARGE DEBLENDED_AS_PSF DEBLEND_PRUNED ELLIPFAINT BINNED1 BINNED2 BINNED4
    MOVED DEBLENDED_AS_MOVING NODEBLEND_MOVING TOO_FEW_DETECTIONS BAD_MOVING_FIT STATIONARY PEAKS_TOO_CLOSE
    BINNED_CENTER LOCAL_EDGE BAD_COUNTS_ERROR BAD_MOVING_FIT_CHILD DEBLEND_UNASSIGNED_FLUX SATUR_CENTER INTERP_CENTER
    DEBLENDED_AT_EDGE DEBLEND_NOPEAK PSF_FLUX_INTERP TOO_FEW_GOOD_DETECTIONS CENTER_OFF_AIMAGE DEBLEND_DEGENERATE
    BRIGHTEST_GALAXY_CHILD CANONICAL_BAND AMOMENT_UNWEIGHTED AMOMENT_SHIFT AMOMENT_MAXITER MAYBE_CR MAYBE_EGHOST
    NOTCHECKED_CENTER HAS_SATUR_DN
"""
PHOTO_FLAGS = {name: 1 << bit for bit, name in enumerate(_FLAGS.split())}  # page enum+PhotoFlags+E
_TYPES = "UNKNOWN COSMIC_RAY DEFECT GALAXY GHOST KNOWNOBJ STAR TRAIL SKY"
PHOTO_TYPES = {name: value for value, name in enumerate(_TYPES.split())}  # page enum+PhotoType+E

PAGES = {table: f"{BROWSER}{table}+U" for table in TABLES}


def duckdb_type(kind: str) -> str:
    """Return DuckDB's name of a type of SQL Server."""
    return _DUCKDB[kind]


def create_table(table: str) -> str:
    """Return the statement that creates an empty table in DuckDB."""
    columns = ", ".join(f'"{name}" {duckdb_type(kind)} NOT NULL' for name, kind in TABLES[table].items())
    return f'CREATE TABLE "{table}" ({columns})'
