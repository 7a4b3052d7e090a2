#!/usr/bin/env bash
# Follow a site with nothing but mosquitto_sub and jq: one line for each event, and one for each change of a level.
#   ./watch.sh rv3-km41 [mosquitto_sub options, such as -h broker.example --cafile ca.crt]
set -euo pipefail
site=${1:?usage: $0 SITE [mosquitto_sub options]}
shift
mosquitto_sub -V 5 "$@" -t "wildlane/v1/$site/event/#" -t "wildlane/v1/$site/state/#" -F '%j' |
  jq --unbuffered -r '
    (.topic | split("/")) as $topic | (.payload | if type == "string" then fromjson else . end) as $said |
    if $topic[3] == "event" then
      "\($said.time)  \($topic[4])  \($said.data.situation.phase)  \($said.data.animal.class)  \($said.data.certainty.probability * 100 | round) %  \($said.data.because[0])"
    else
      "\($said.time)  \($topic[4])  level \($said.level)"
    end'
