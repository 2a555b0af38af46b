"""What AWS takes as a name, an ARN, an address or a number of days: each once.

Sources: botocore's models (SageMaker's EndpointName and VariantName, SNS's topic names, CloudWatch
Logs' PutRetentionPolicy).
"""

from __future__ import annotations

import re

from sixways.checks import Checks, is_plain

SAGEMAKER_NAME = re.compile(r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}")
KMS_KEY = re.compile(r"arn:aws[a-z-]*:kms:[a-z0-9-]+:\d{12}:key/[\w-]+")
TOPIC = re.compile(r"arn:aws[a-z-]*:sns:[a-z0-9-]+:\d{12}:[A-Za-z0-9_-]{1,256}")
EMAIL = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+")
LOG_DAYS = (
    *(1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827),
    *(2192, 2557, 2922, 3288, 3653),
)


def check_log_days(checks: Checks, days: object) -> None:
    """`log_retention_days`, where it is given and plain, is a number that CloudWatch Logs takes."""
    if days is not None and is_plain(days) and days not in LOG_DAYS:
        checks.add("log_retention_days", days, ", ".join(map(str, LOG_DAYS)))
