{{/*
Names, labels and rules that several templates share.
*/}}

{{- define "raftkv-operator.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 58 | trimSuffix "-" }}
{{- end }}

{{/*
Name of objects in a namespace. 52 characters, so that a suffix of at most 11 still fits a DNS label.
*/}}
{{- define "raftkv-operator.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" }}
{{- else }}
{{- $name := include "raftkv-operator.name" . }}
{{- if contains $name .Release.Name }}
{{- .Release.Name | trunc 52 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 52 | trimSuffix "-" }}
{{- end }}
{{- end }}
{{- end }}

{{/*
Name of objects outside any namespace, and of objects in namespaces other than the release's. It contains the release's namespace,
since another release may have the same name. RBAC allows the colon, and the name of a namespace never has one.
*/}}
{{- define "raftkv-operator.rbacName" -}}
{{- printf "%s:%s" .Release.Namespace (include "raftkv-operator.fullname" .) }}
{{- end }}

{{/*
Labels that select the operator's pods. They are in an immutable field of the Deployment: they never change.
*/}}
{{- define "raftkv-operator.selectorLabels" -}}
app.kubernetes.io/name: {{ include "raftkv-operator.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "raftkv-operator.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{ include "raftkv-operator.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/component: operator
app.kubernetes.io/part-of: raftkv
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{/*
The labels, with further ones of the user, which never replace ours. Call it with a list of the user's labels and the root.
*/}}
{{- define "raftkv-operator.labelsWith" -}}
{{- $ours := include "raftkv-operator.labels" (index . 1) | fromYaml }}
{{- toYaml (merge $ours (default (dict) (index . 0))) }}
{{- end }}

{{/*
Name label of the pods of `helm test`. It differs from the operator's, whose Service must not select them.
*/}}
{{- define "raftkv-operator.testName" -}}
{{- printf "%s-test" (include "raftkv-operator.name" .) }}
{{- end }}

{{- define "raftkv-operator.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "raftkv-operator.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{/*
Reference of an image. Call it with a list of its values and the root.
*/}}
{{- define "raftkv-operator.image" -}}
{{- $image := index . 0 }}
{{- $root := index . 1 }}
{{- if $image.digest }}
{{- printf "%s@%s" $image.repository $image.digest }}
{{- else }}
{{- printf "%s:%s" $image.repository (default $root.Chart.AppVersion $image.tag) }}
{{- end }}
{{- end }}

{{/*
Whether the aggregated ClusterRoles are made: "true" or nothing.
*/}}
{{- define "raftkv-operator.aggregate" -}}
{{- $wanted := .Values.rbac.aggregate }}
{{- if kindIs "invalid" $wanted }}{{ $wanted = empty .Values.watchNamespaces }}{{ end }}
{{- if and .Values.rbac.create $wanted }}true{{ end }}
{{- end }}

{{- define "raftkv-operator.subject" -}}
- kind: ServiceAccount
  name: {{ include "raftkv-operator.serviceAccountName" . }}
  namespace: {{ .Release.Namespace }}
{{- end }}

{{/*
The rights that the operator needs in a namespace that it watches, and no more. The list is compared with tests/chart/golden.
*/}}
{{- define "raftkv-operator.rules" -}}
# The clusters belong to the users. The operator writes only their status.
- apiGroups: [raftkv.dev]
  resources: [raftkvclusters]
  verbs: [get, list, watch]
- apiGroups: [raftkv.dev]
  resources: [raftkvclusters/status]
  verbs: [update]
# An owner reference that blocks deletion needs this right where OwnerReferencesPermissionEnforcement is on.
- apiGroups: [raftkv.dev]
  resources: [raftkvclusters/finalizers]
  verbs: [update]
# Kubernetes deletes children with their owner, so that the operator never deletes any of these.
- apiGroups: [apps]
  resources: [statefulsets]
  verbs: [get, list, watch, create, patch]
- apiGroups: [""]
  resources: [services]
  verbs: [get, list, watch, create, patch]
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [get, list, watch, create, patch]
# Pods are made by the StatefulSet. A pod is restarted by its eviction, or by deleting it.
- apiGroups: [""]
  resources: [pods]
  verbs: [list, watch, delete]
- apiGroups: [""]
  resources: [pods/eviction]
  verbs: [create]
# Claims are made by the StatefulSet, too. The operator deletes a claim when its member was removed, by its uid and resourceVersion.
- apiGroups: [""]
  resources: [persistentvolumeclaims]
  verbs: [list, watch, patch, delete]
# The token of a cluster. It is read by name: no list, no watch. It is patched to give it back an owner that it lost.
- apiGroups: [""]
  resources: [secrets]
  verbs: [get, create, patch]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create]
{{- end }}
