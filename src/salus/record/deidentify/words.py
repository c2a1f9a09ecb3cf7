"""Words that are no names though they are written with a capital letter: of the language, of clinical notes, and after eponyms.

Holds word lists only; `people` uses them to tell `Crohn disease` and `Blood Culture` from people.
"""

from __future__ import annotations

from importlib.resources import files

_CLINICAL = """
abdomen abvd accession account acute addendum admission admitted afebrile alert allergies allergy ambulance amoxicillin anesthesia antibiotic apgar apixaban appointment assessment aspirin
attending audiogram authorization balance bed beneficiary bid biopsy birth bladder bleeding blood bowel braden brain breast bronchitis called cardiac cardiology catheter cell chart chemotherapy chest chief chloride chronic claim clinic
clinical colon complaint complete computed consent consult consultant contact continue contrast control copd cough covid creatinine critical crrt culture cultures cycle daily date day days deep denies department dermatology device diabetes
diagnosis diagnostic diet dictated discharge discharged discussed dob doctor dose dressing driver ear echo edema electronically emergency encl enclosed endocrine endoscopy ent exam examination eye family fast fax female fever findings finding
fingerprint fleischner foley follow followup for full general genetics glucose good heart hematology hemoglobin history home hospital hip icu impression incident indication infection infliximab injury inpatient insurance intensive
interpreter invoice iron kidney knee lab laboratory labs left lens letter limited liver location lot lung male medical medicare medicaid medication medications medicine member metformin mild mobile moderate monitor morning mother mri name
neck negative nephrology neurology newborn nexus night none normal norepinephrine note notes nottingham nurse nursing nuclear obesity obstetrics oncology operative ophthalmology oral orthopedics outpatient oxygen pain palliative past pathology patient
pediatric pediatrics pelvis pending pharmacy phone physical physician physiotherapy plan plaque pneumonia police policy port portal positive prescriber present pressure primary prior procedure prognosis psychiatry pulmonary pulse quality radiology
rash recommendation record reference referral regarding regular rehabilitation release renal report reported respiratory result results retinal review reviewed rheumatology right room routine sample scan seen sepsis severe signed sinus skin sleep
social soft spine spoke stable stage staff status stroke study subject subjective objective summary surgeon surgery surgical symptoms telehealth telephone temp temperature test therapy thoracic thyroid time tissue today transfer transferred
trauma treatment ulcer ultrasound unremarkable unit urgent urine urology vaccination vascular vein ventilator visit vision vital vitals voice weight whipple wife work worker workers wound xray xr ct mr us ecg ekg eeg pet cxr
hispanic caucasian african american asian european english spanish french german italian british irish white black monday tuesday wednesday thursday friday saturday sunday january february march april may june july august september
october november december spring summer autumn fall winter christmas easter thanksgiving will mark bill art grace faith hope joy rose lily violet ivy dale frank grant guy jack jay gene miles max pat rich rob sandy sherry sterling sue
sunny ward wade drew earnest angel august autumn brandy carol chance chase christian clay cliff colt dawn dean dusty forest ginger glen grand hazel heath holly hunter hunt iris ivory jade jasmine jewel joy june king lake lance lane lee long
major man mercy merry miles misty nick norm olive ora page pearl penny pepper piper precious prince queen ray reed rocky ruby rusty sage second see so star stone storm summer teddy tiny true ty von wan you young an in my do
can sal so le la see son man long ha hung hong tam ma kim ok asa see ping lo bo ed bath bend bury cork deal diamond bar eagle pass enterprise franklin gallup hammond hope independence liberty mobile mission normal orange paradise
reading rugby sandwich split stone surprise sunrise superior sale summit temple troy union yale wells warren ware ross rush nice of most plum poole salt wigan wall well west east north south central upper lower middle new old great
hull limerick vacuum sequence iohexol orlando trial score index scale grade type class group level line lead dual chamber battery impedance next check retired teacher report images advised surgery research access given family goals care code
bacon eggs apgar bicarbonate ceftriaxone levetiracetam carbidopa levodopa tryptase ferritin hba lactate troponin return bring records requested allergies penicillin login mean range pap smear due pager above addendum plan hb inr wbc hgb plt
furosemide email rescheduled please exam operative assistant blood implant pt bed diet signs adult child children infant pleasant widow police passenger press employer machine compensation certificate video ventilator alarmed stopped
weaned resting report comfortably chronic retinopathy macular department ethics committee world health organization united states america kingdom federal state national international american european association society college
university school high elementary board council act law government army navy force veterans affairs administration food drug center centre institute foundation church catholic baptist methodist jewish muslim christian
"""
_NEVER = """
a an the and or of in on at to for from with by as is was were are be been has have had he she his her him they their them it its this that these those there who whom which what when where while not no yes if then than so but
i we you your our my me mr mrs ms dr prof pt patient name names dob mrn date time signed tel phone fax email address male female sex age years year old md rn do np pa phd dated born department hospital clinic ward room bed unit icu er ed or
monday tuesday wednesday thursday friday saturday sunday january february march april june july august september october november december seen admitted discharged history physical examination assessment plan impression
findings indication technique comparison medications allergies diagnosis chief complaint review systems social family past vital signs labs laboratory results report reports note notes summary follow followup discharge admission
consult consultation procedure operative operation anesthesia surgeon assistant attending physician nurse doctor dear re cc encl sincerely regards thank thanks please today yesterday tomorrow tonight morning afternoon evening
left right bilateral upper lower med rec id ssn license licence police car vehicle passenger driver insurance medicare medicaid account claim policy member fingerprint prescriber dispensed electronically dictated transcribed
blood heart chest lung liver ct mri ecg ekg echo x-ray xray ultrasound pathology radiology accession study specimen certificate interpreter consent machine employer worker workers login ventilator device battery
"""
EPONYM_NOUNS = (
    r"disease|coma|syndrome|sign|test|criteria|score|scale|index|phenomenon|reflex|fracture|procedure|operation|catheter|lymphoma|sarcoma|tumou?r|palsy|disorder|dementia|body|bodies|cell|cells|thyroiditis|contracture|ulcer|"
    r"oesophagus|esophagus|hernia|tube|line|position|nodes?|stain|stage|grade|classification|formula|equation|method|maneuver|manoeuvre|technique|incision|clamp|needle|drain|bag|cannula|guidelines?|staging|virus|"
    r"anomaly|malformation|chorea|ataxia|encephalopathy|neuropathy|nephropathy|purpura|arteritis|granulomatosis|gland|duct|canal|ligament|triangle|point|angle|loop|space|law|effect|factor|units?|agar|respiration|breathing|"
    r"pneumonia|dystrophy|deformity|arthropathy|foot|joint|vein|artery|valve|shunt|stent|pouch|mask|splint|collar|frame|murmur|pulse|facies|rings?|crisis|exophthalmos|medium|reaction|protein|antigen|glucose|diet"
)
"""What follows a physician's name that has become a term (regular expression)."""


def _listed(name: str) -> frozenset[str]:
    text = (files("salus.record.deidentify") / "lists" / name).read_text("utf-8")
    return frozenset(line.strip().lower() for line in text.splitlines() if not line.startswith("#"))


NOT_A_NAME = frozenset(_NEVER.split())
"""Words that are never part of a name."""
EVERYDAY = (_listed("words.txt") - _listed("first_names.txt")) | NOT_A_NAME
"""Words that are written in small letters in the literature, and are no first names."""
COMMON = _listed("words.txt") | frozenset(_CLINICAL.split()) | NOT_A_NAME
"""Words of the language and of clinical notes; as a name they count only beside a word that is not one of these."""
