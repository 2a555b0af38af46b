{{- /* What a schema cannot say. All problems at once. */}}
{{- define "sixways.checks" -}}
{{- $v := .Values }}
{{- $found := list }}
{{- if not $v.image.reference }}
{{- $found = append $found "image.reference: empty; accepted: REPOSITORY@sha256:DIGEST; fix: add it" }}
{{- end }}
{{- if not $v.models }}
{{- $found = append $found "models: empty; accepted: at least one model; fix: add name, digest and one of path, s3, image" }}
{{- end }}
{{- $names := list }}
{{- range $i, $model := $v.models }}
{{- if has $model.name $names }}
{{- $found = append $found (printf "models[%d].name: %s; accepted: each name once; fix: rename one of them" $i $model.name) }}
{{- end }}
{{- $names = append $names $model.name }}
{{- if and $model.image (semverCompare "<1.33.0-0" $.Capabilities.KubeVersion.Version) }}
{{- $found = append $found (printf "models[%d].image: Kubernetes %s; accepted: 1.33 or newer; fix: use s3, or a bundle in the server's image" $i $.Capabilities.KubeVersion.Version) }}
{{- end }}
{{- end }}
{{- if and (not $v.apiKeys.existingSecret) (not $v.apiKeys.hashes) }}
{{- $found = append $found "apiKeys: none; accepted: existingSecret or hashes; fix: add one, or nobody could call" }}
{{- end }}
{{- if and $v.apiKeys.existingSecret $v.apiKeys.hashes }}
{{- $found = append $found "apiKeys: both; accepted: existingSecret or hashes; fix: remove one of them" }}
{{- end }}
{{- $a := $v.autoscaling }}
{{- $floor := int $v.replicas }}
{{- if ne $a.type "none" }}
{{- $floor = int $a.minReplicas }}
{{- if gt (int $a.minReplicas) (int $a.maxReplicas) }}
{{- $found = append $found (printf "autoscaling.minReplicas: %d; accepted: up to maxReplicas %d; fix: change one of them" (int $a.minReplicas) (int $a.maxReplicas)) }}
{{- end }}
{{- if not (or $a.cpuUtilization $a.queueDepth $a.requestsInFlight) }}
{{- $found = append $found "autoscaling: nothing to scale by; accepted: cpuUtilization, queueDepth or requestsInFlight; fix: add one" }}
{{- end }}
{{- end }}
{{- if and (eq $a.type "hpa") (eq (int $a.minReplicas) 0) }}
{{- $found = append $found "autoscaling.minReplicas: 0; accepted: 1 or more with hpa; fix: use keda" }}
{{- end }}
{{- if eq $a.type "keda" }}
{{- if and (or $a.queueDepth $a.requestsInFlight $a.keda.activationQuery) (not $a.keda.prometheusUrl) }}
{{- $found = append $found "autoscaling.keda.prometheusUrl: empty; accepted: the address of Prometheus; fix: add it" }}
{{- end }}
{{- if and (eq (int $a.minReplicas) 0) (not $a.keda.activationQuery) }}
{{- $found = append $found "autoscaling.keda.activationQuery: empty; accepted: a query that is over 0 when somebody asks, since no pod counts requests while none runs; fix: add it, or minReplicas 1" }}
{{- end }}
{{- end }}
{{- $least := $v.podDisruptionBudget.minAvailable }}
{{- if and $v.podDisruptionBudget.enabled (not (kindIs "invalid" $least)) (not (kindIs "string" $least)) }}
{{- if and (gt $floor 0) (ge (int $least) $floor) }}
{{- $found = append $found (printf "podDisruptionBudget.minAvailable: %d; accepted: less than the %d replicas, or no node could ever be drained; fix: lower it, or raise the replicas" (int $least) $floor) }}
{{- end }}
{{- end }}
{{- $budget := ternary $v.podDisruptionBudget.maxUnavailable "" (kindIs "invalid" $least) | toString }}
{{- if and $v.podDisruptionBudget.enabled (or (has $budget (list "0" "0%")) (eq (toString $least) "100%")) }}
{{- $found = append $found "podDisruptionBudget: no pod may ever go; accepted: a budget that leaves at least one, or no node could ever be drained; fix: raise maxUnavailable, or lower minAvailable" }}
{{- end }}
{{- if and (eq (toString $v.rollout.maxUnavailable) "0") (eq (toString $v.rollout.maxSurge) "0") }}
{{- $found = append $found "rollout.maxSurge: 0; accepted: 1 or more while maxUnavailable is 0; fix: raise one of them" }}
{{- end }}
{{- if and (gt (int $v.gpu.count) 0) (not $v.nodeSelector) }}
{{- $found = append $found (printf "nodeSelector: empty; accepted: labels of nodes with %s; fix: add them" $v.gpu.resource) }}
{{- end }}
{{- if and $v.monitoring.rules.enabled (gt (float64 $v.monitoring.slo.latencyMs) 81920.0) }}
{{- $found = append $found (printf "monitoring.slo.latencyMs: %v; accepted: up to 81920 with rules, the longest that the server's histogram tells apart; fix: lower it" $v.monitoring.slo.latencyMs) }}
{{- end }}
{{- if gt (int $v.server.lingerSeconds) (int $v.server.drainSeconds) }}
{{- $found = append $found (printf "server.lingerSeconds: %v; accepted: up to drainSeconds %v; fix: change one of them" $v.server.lingerSeconds $v.server.drainSeconds) }}
{{- end }}
{{- if $v.ingress.enabled }}
{{- if not $v.ingress.hosts }}
{{- $found = append $found "ingress.hosts: empty; accepted: at least one host name; fix: add it" }}
{{- end }}
{{- if not $v.ingress.tlsSecret }}
{{- $found = append $found "ingress.tlsSecret: empty; accepted: the name of a TLS Secret, since keys do not pass in clear; fix: add it" }}
{{- end }}
{{- end }}
{{- if $v.httpRoute.enabled }}
{{- if not $v.httpRoute.hostnames }}
{{- $found = append $found "httpRoute.hostnames: empty; accepted: at least one host name; fix: add it" }}
{{- end }}
{{- if and (not $v.httpRoute.parentRefs) (not (and $v.httpRoute.gateway.className $v.httpRoute.gateway.tlsSecret)) }}
{{- $found = append $found "httpRoute.parentRefs: empty; accepted: HTTPS listeners, or gateway.className and gateway.tlsSecret; fix: add one of them" }}
{{- end }}
{{- end }}
{{- if $found }}
{{- fail (printf "the values cannot be used:\n  - %s" (join "\n  - " $found)) }}
{{- end }}
{{- end }}
